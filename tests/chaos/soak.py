"""A soak: real processes under load, killed, frozen and cut off at random.

    python -m tests.chaos.soak --minutes 3 --seed 7

The same seed makes the same decisions; when they meet which process is up to the
machine. It ends with exit code 1 where something was lost, done twice or left over,
and then keeps its logs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import django


def main() -> int:
    """Run one soak; its exit code."""
    options = _options()
    directory = Path(tempfile.mkdtemp(prefix=f"soak-{options.seed}-"))
    # Before Django: this process speaks to the server of the soak, too.
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
        "ORCHESTRATOR_TEST_SERVER": str(directory / "server"),
    }
    django.setup()
    from tests.chaos.storm import Storm

    storm = Storm(directory, options.seed)
    print(f"Soak of {60 * options.minutes:g} s, seed {options.seed}: {directory}")
    troubles = storm.run(60 * options.minutes)
    print(storm.summary(troubles))
    if troubles or options.keep:
        print(f"Kept: {directory}. Again: --seed {options.seed}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if troubles else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill and freeze workers under load.")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--keep", action="store_true", help="keep the logs anyway")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
