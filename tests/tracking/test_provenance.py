from mlpop import __version__
from mlpop.tracking import Store, open_run, record_provenance
from mlpop.tracking.artifacts import fetched
from mlpop.tracking.provenance import installed_packages


def test_run_says_with_which_code_it_was_made(store: Store) -> None:
    with open_run("experiment", "code", store=store) as run:
        record_provenance(run)
    tags = store.client.get_run(run.run_id).data.tags
    assert tags["mlpop.version"] == __version__
    assert tags["mlpop.python"].startswith("3.")
    with fetched(store.client, run.run_id, "provenance/requirements.txt") as path:
        lines = path.read_text().splitlines()
    assert lines == installed_packages()
    assert any(line.startswith("torch==2.13.0") for line in lines)
