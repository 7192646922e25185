from unlearn_runner.api import UserError as UserError
from unlearn_runner.api import compose as compose
from unlearn_runner.api import evidence as evidence
from unlearn_runner.api import load_runs as load_runs
from unlearn_runner.api import plan as plan
from unlearn_runner.api import run as run

__version__: str
