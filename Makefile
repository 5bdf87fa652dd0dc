# Every target works in the active virtual environment, or in .venv, which it
# makes with PYTHON: needed are Python, pip, make and a C compiler.
PYTHON ?= python3
export PYTHON

.PHONY: demo test clients stdlib soak check bench asan ubsan torture clean

demo test clients stdlib soak check bench asan ubsan torture:
	@scripts/$@

clean:
	rm -rf .venv .venv-* build dist wheelhouse src/*.egg-info
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
