"""Fine-tune in several processes: ``accelerate launch -m pipelines.finetune align STORE --out DIR``."""

import sys

from pipelines.cli import app
from pipelines.outcome import run_app

if __name__ == "__main__":
    sys.exit(run_app(app, ["finetune", *sys.argv[1:]]))
