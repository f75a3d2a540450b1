"""Write requirements.lock and conda.yaml from the environment that runs this script.

    python -m venv new && . new/bin/activate && pip install -e '.[test]' && python .ci/lock.py

The lock holds everything that is installed, the extras of tests and documents too; conda.yaml what
mlpop alone needs, with the same pins.
"""

from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
NOT_LOCKED = {"mlpop", "pip"}
CONDA = """\
# made by .ci/lock.py
name: mlpop
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def pin(package: Distribution) -> str:
    """Return name==version, without the build label that no index knows (`+cpu`)."""
    return f"{canonicalize_name(package.name)}=={package.version.partition('+')[0]}"


def needed(name: str, seen: set[str]) -> set[str]:
    """Add a package and all that it requires without an extra, as installed here, to `seen`."""
    seen.add(name)
    for text in distribution(name).requires or []:
        requirement = Requirement(text)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and canonicalize_name(requirement.name) not in seen:
            needed(canonicalize_name(requirement.name), seen)
    return seen


def main() -> None:
    """Write both files."""
    # by name: what an upgrade left behind would be found, too
    names = {canonicalize_name(package.name) for package in distributions()}
    pins = {name: pin(distribution(name)) for name in names}
    locked = sorted(set(pins) - NOT_LOCKED)
    (ROOT / "requirements.lock").write_text(
        "# made by .ci/lock.py\n" + "".join(f"{pins[name]}\n" for name in locked)
    )
    own = sorted(needed("mlpop", set()) - NOT_LOCKED)
    (ROOT / "conda.yaml").write_text(CONDA + "".join(f"      - {pins[name]}\n" for name in own))


if __name__ == "__main__":
    main()
