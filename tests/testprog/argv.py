"""Prints what a script sees of how it was started."""

import os
import sys

from goroutines import current

if __name__ == "__main__":
    print(__name__)
    print(os.path.basename(sys.argv[0]), *sys.argv[1:])
    print(os.path.basename(__file__))
    print(current().id)
    print(os.path.basename(sys.path[0]) or os.path.basename(os.getcwd()))
    print(sys.modules["__main__"].__dict__ is globals())
