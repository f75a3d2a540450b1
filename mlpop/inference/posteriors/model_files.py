"""A posterior with all its files in one folder, every file under a digest: to be sent around."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile

from mlpop.errors import DataError
from mlpop.inference.estimators.store import DESCRIPTION, WEIGHTS
from mlpop.inference.posteriors.posterior import Posterior
from mlpop.inference.posteriors.store import POSTERIOR_FILE, load_posterior, save_posterior
from mlpop.io.files import sha256_of, write_json

DIGESTS = "digests.json"
"""Name of the list: file -> SHA-256. The SHA-256 of the list is the digest of the posterior."""


def pack_posterior(folder: Path, posterior: Posterior, members: Sequence[Path]) -> str:
    """Write a posterior, its members, of these folders, and its compressor into an empty folder.

    Returns:
        The digest of the posterior: the same for the same weights, prior and preprocessing.

    Raises:
        DataError: a member is missing, or a file cannot be written.
    """
    copies = [folder / f"member_{index:02d}" for index in range(len(members))]
    try:
        for source, target in zip(members, copies, strict=True):
            target.mkdir(parents=True)
            for name in (WEIGHTS, DESCRIPTION):
                copyfile(source / name, target / name)
    except OSError as error:
        raise DataError(f"{folder}: the posterior cannot be packed: {error}") from error
    save_posterior(folder / POSTERIOR_FILE, posterior, copies)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    write_json(folder / DIGESTS, digests)
    return sha256_of(folder / DIGESTS)


def read_digests(content: bytes, digest: str, source: str) -> dict[str, str]:
    """Return file -> SHA-256 of a packed posterior, from the `content` of its list of digests.

    Raises:
        DataError: the list is not the one that belongs to the digest.
    """
    actual = hashlib.sha256(content).hexdigest()
    if actual != digest:
        raise DataError(
            f"{source}: {DIGESTS} has the SHA-256 {actual[:12]}…, that of the posterior is "
            f"{digest[:12]}…; it was changed"
        )
    return {str(name): str(value) for name, value in json.loads(content).items()}


def load_packed(folder: Path, digest: str) -> Posterior:
    """Load the posterior that `pack_posterior` wrote; its digest was kept elsewhere.

    Raises:
        DataError: a file is missing, damaged or changed.
    """
    try:
        digests = read_digests((folder / DIGESTS).read_bytes(), digest, str(folder))
        for name, expected in digests.items():
            if (actual := sha256_of(folder / name)) != expected:
                raise DataError(
                    f"{folder / name}: its SHA-256 is {actual[:12]}…, {DIGESTS} has "
                    f"{expected[:12]}…; it is damaged or was changed"
                )
    except OSError as error:
        raise DataError(f"{folder}: the packed posterior cannot be read: {error}") from None
    return load_posterior(folder / POSTERIOR_FILE)
