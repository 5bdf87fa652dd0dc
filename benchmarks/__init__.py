"""The benchmark suite of goroutines: ``python -m benchmarks --help``.

Layout: ``catalog`` says what is measured and what is to be reached, ``contenders`` who
takes part, ``measure`` runs one program once, ``results`` gathers the figures, ``report``
and ``chart`` write them out, ``__main__`` is the command, and ``programs/`` holds what is
run: one file per Python runtime and a Go module.
"""
