"""`mlpop init`: a folder of one's own, from which experiments run without a checkout."""

import json
import re
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import as_file, files
from pathlib import Path

from mlpop import __version__
from mlpop.errors import DataError

EXPERIMENTS = "experiments"
LINK_OUT = re.compile(r"\[([^\]]*)\]\(\.\./([^)#]+)[^)]*\)")
"""A link of Markdown to a file that a project does not have."""

IGNORED = ("mlflow.db*", "mlruns/", "output/", "data/", "__pycache__/")


def init_project(folder: Path) -> list[Path]:
    """Write MLproject, conda.yaml, .gitignore and the shipped experiments into an empty folder.

    Returns:
        What was written, in order.

    Raises:
        DataError: the folder is not empty, or cannot be written.
    """
    try:
        if folder.exists() and any(folder.iterdir()):
            raise DataError(
                f"{folder}: not empty; mlpop init writes into a new or empty folder only"
            )
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / ".gitignore"]
        written[0].write_text("".join(f"{name}\n" for name in IGNORED))
        with as_file(files("mlpop").joinpath("project")) as template:
            sources = [template / "MLproject", template / "conda.yaml"]
            sources += sorted((template / EXPERIMENTS).glob("**/*.*"))
            for source in sources:
                target = folder / source.relative_to(template)
                target.parent.mkdir(exist_ok=True)
                text = LINK_OUT.sub(r"\1: `\2` of mlpop's repository", source.read_text())
                if source.name == "conda.yaml":
                    text += f"      - {_this_package()}\n"
                target.write_text(text)
                written.append(target)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return written


def what_next(folder: Path) -> str:
    """Return the commands that a new project begins with, for a terminal."""
    return (
        f"Next: cd {shlex.quote(str(folder))}\n"
        "  mlpop sbi -c experiments/smoke.json  # shows that all works; its numbers mean nothing\n"
        "  mlflow run . -e sbi --env-manager local --experiment-name main  # the main job\n"
        "The first run compiles code, which takes a minute or two. experiments/README.md says "
        "what each file is for."
    )


def _this_package() -> str:
    """Return what pip installs this mlpop from: the wheel or address it came from, or its name."""
    try:
        origin = distribution("mlpop").read_text("direct_url.json")
    except PackageNotFoundError:
        origin = None
    address = json.loads(origin)["url"] if origin else ""
    return f"mlpop @ {address}" if address else f"mlpop=={__version__}"
