"""`python -m unlearn_runner`."""

from unlearn_runner.run import console

console()
