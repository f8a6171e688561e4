"""The command `omnicurate`. Commands are thin: they parse, call and render; imports are made when a command runs.

Exit codes: 0 done; 1 the run or check failed; 2 the command or the recipe is wrong; 130 interrupted.
"""

# The order is that of --help.
# isort: off
from pipelines.cli import run
from pipelines.cli import look
from pipelines.cli import exchange
from pipelines.cli import help
from pipelines.cli.base import app

__all__ = ["app", "exchange", "help", "look", "run"]
