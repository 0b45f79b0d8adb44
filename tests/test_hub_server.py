"""The local Hub answers the real clients as the Hub does."""

import random
import subprocess
import sys
import threading
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from hub_server import HubServer
from huggingface_hub import CommitOperationDelete, HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

REPO = "user/segments"
README = """---
configs:
- config_name: pause
  data_files:
  - split: train
    path: data/pause/train-*.parquet
- config_name: backchannel
  data_files:
  - split: train
    path: data/backchannel/train-*.parquet
  - split: test
    path: data/backchannel/test-*.parquet
---
# Segments
"""


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A dataset of two configurations with a binary of 6 MB; a test works on a copy of it."""
    folder = tmp_path_factory.mktemp("content")
    for name, ids in {"pause/train": [0, 1, 2], "backchannel/train": [3, 4], "backchannel/test": [5]}.items():
        path = folder / "data" / f"{name}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"id": ids}), path)
    (folder / "README.md").write_text(README)
    (folder / "run.json").write_text("{}\n")
    (folder / "annotations").mkdir()
    (folder / "annotations" / "audio.bin").write_bytes(random.Random(0).randbytes(6_000_000))
    return files(folder)


@pytest.fixture
def folder(content, tmp_path):
    return write(content, tmp_path / "dataset")


@pytest.fixture
def api(hub):
    """A client that can write, and its repository, private."""
    api = HfApi(token=hub.token)
    api.create_repo(REPO, repo_type="dataset", private=True)
    return api


def files(folder):
    """What is in a folder, without what clients put there for themselves."""
    paths = [path for path in sorted(Path(folder).rglob("*")) if path.is_file() and ".cache" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write(content, folder):
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def uploaded(hub, repo=REPO):
    return {path: data for path, data in hub.files(repo).items() if path != ".gitattributes"}


def test_create(hub):
    api = HfApi(token=hub.token)
    url = api.create_repo(REPO, repo_type="dataset", private=True)
    assert url.repo_id == REPO and url.repo_type == "dataset" and hub.private(REPO)
    assert api.create_repo(REPO, repo_type="dataset", exist_ok=True) == url and hub.private(REPO)
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_repo(REPO, repo_type="dataset")
    api.create_repo("public", repo_type="dataset")
    assert not hub.private("user/public") and hub.commits("user/public") == ["initial commit"]
    with pytest.raises(HfHubHTTPError, match="rights to create"):
        api.create_repo("someone/else", repo_type="dataset")


def test_upload_folder(hub, api, folder, content, tmp_path):
    commit = api.upload_folder(repo_id=REPO, folder_path=folder, repo_type="dataset", commit_message="First")
    assert uploaded(hub) == content and hub.commits(REPO) == ["initial commit", "First"]

    got = snapshot_download(REPO, repo_type="dataset", token=hub.read_token)
    assert files(got) == hub.files(REPO) and Path(got).name == commit.oid and str(hub.home) in got
    got = snapshot_download(REPO, repo_type="dataset", token=hub.token, local_dir=tmp_path / "local")
    assert files(got) == hub.files(REPO)

    again = api.upload_folder(repo_id=REPO, folder_path=folder, repo_type="dataset", commit_message="Nothing new")
    assert again.oid == commit.oid and len(hub.commits(REPO)) == 2
    (folder / "run.json").write_text('{"seed": 1}\n')
    api.upload_folder(repo_id=REPO, folder_path=folder, repo_type="dataset", commit_message="Second")
    assert uploaded(hub) == files(folder) and hub.commits(REPO)[2:] == ["Second"]
    old = hf_hub_download(REPO, "run.json", repo_type="dataset", revision=commit.oid, token=hub.token)
    assert Path(old).read_text() == "{}\n"
    assert sum(line.startswith("PUT /upload/") for line in hub.asked) == 4, "each LFS file once"


def test_upload_large_folder(hub, api, folder, content):
    hub.fail(7, path_contains="/upload/")
    hub.cut(1, 1 << 20, path_contains="/upload/")
    hub.fail(1, status=503, path_contains="/commit/")
    api.upload_large_folder(repo_id=REPO, folder_path=folder, repo_type="dataset", num_workers=2, print_report=False)
    assert uploaded(hub) == content
    assert not any(times for _, times, *_ in hub.faults)


def test_listing(hub, api, folder, content):
    api.upload_folder(repo_id=REPO, folder_path=folder, repo_type="dataset")
    info = api.dataset_info(REPO, files_metadata=True)
    assert info.private and {file.rfilename: file.size for file in info.siblings} == {
        path: len(data) for path, data in hub.files(REPO).items()
    }
    assert {file.rfilename for file in info.siblings if file.lfs} == {
        path for path in content if path.endswith((".bin", ".parquet"))
    }
    top = api.list_repo_tree(REPO, repo_type="dataset")
    assert [entry.path for entry in top] == [".gitattributes", "README.md", "annotations", "data", "run.json"]
    deep = api.list_repo_tree(REPO, "data", repo_type="dataset", recursive=True, expand=True)
    assert [entry.path for entry in deep if hasattr(entry, "size")] == [path for path in content if "data/" in path]
    [binary] = api.get_paths_info(REPO, ["annotations/audio.bin", "missing"], repo_type="dataset")
    assert binary.size == binary.lfs.size == 6_000_000
    assert api.file_exists(REPO, "run.json", repo_type="dataset")
    assert not api.file_exists(REPO, "missing", repo_type="dataset")
    assert not api.revision_exists(REPO, "missing", repo_type="dataset")


def test_delete_and_parent(hub, api):
    def commit(*paths, parent=None):
        delete = [CommitOperationDelete(path) for path in paths]
        return api.create_commit(REPO, delete, commit_message="Delete", repo_type="dataset", parent_commit=parent)

    for path in ("a/b", "a/c", "ab"):
        first = api.upload_file(path_or_fileobj=b"x", path_in_repo=path, repo_id=REPO, repo_type="dataset")
    commit("a/", parent=first.oid)
    assert list(uploaded(hub)) == ["ab"]
    with pytest.raises(HfHubHTTPError, match="412"):
        commit("ab", parent=first.oid)
    with pytest.raises(HfHubHTTPError, match="name doesn't exist"):
        commit("a/b")
    commit("ab")
    assert not uploaded(hub)


@pytest.mark.parametrize("streaming", [False, True])
def test_load_dataset(hub, api, folder, streaming):
    api.upload_folder(repo_id=REPO, folder_path=folder, repo_type="dataset")
    pause = datasets.load_dataset(REPO, "pause", streaming=streaming, token=hub.read_token)
    assert {split: [row["id"] for row in rows] for split, rows in pause.items()} == {"train": [0, 1, 2]}
    both = datasets.load_dataset(REPO, "backchannel", streaming=streaming, token=hub.read_token)
    assert {split: [row["id"] for row in rows] for split, rows in both.items()} == {"train": [3, 4], "test": [5]}
    assert datasets.get_dataset_config_names(REPO, token=hub.token) == ["pause", "backchannel"]
    with pytest.raises(datasets.exceptions.DatasetNotFoundError):
        datasets.load_dataset("user/missing", token=hub.token)
    assert not [line for line in hub.asked if not line.split()[1].startswith("/")], "nothing elsewhere"


def test_subprocess(hub, api, folder):
    """Another process needs the environment only."""
    api.upload_folder(repo_id=REPO, folder_path=folder, repo_type="dataset")
    code = f"import datasets; print(datasets.load_dataset({REPO!r}, 'pause', split='train')['id'][:])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=hub.environment(hub.token), capture_output=True, text=True, check=False)
    assert done.stdout == "[0, 1, 2]\n", done.stderr
    assert hub.token not in done.stdout + done.stderr
    [elsewhere] = [line for line in hub.asked if not line.split()[1].startswith("/")]
    assert elsewhere.startswith("GET http://datasets-server."), "the dataset viewer, which no variable switches off"


@pytest.mark.parametrize("fault", ["fail", "cut"])
def test_upload_breaks_off(hub, api, folder, content, fault):
    """All six attempts of the first run fail; the second finishes, and sends what is there already no more."""
    api.upload_folder(repo_id=REPO, folder_path=folder, repo_type="dataset", allow_patterns="data/**")
    hub.fail(6, 500, "/upload/") if fault == "fail" else hub.cut(6, 1 << 20, "/upload/")
    with pytest.raises(RuntimeError, match=r"Error while uploading 'annotations/audio\.bin'"):
        api.upload_folder(repo_id=REPO, folder_path=folder, repo_type="dataset")
    assert len(hub.commits(REPO)) == 2 and uploaded(hub).keys() < content.keys()
    del hub.asked[:]
    api.upload_folder(repo_id=REPO, folder_path=folder, repo_type="dataset")
    assert uploaded(hub) == content
    assert sum(line.startswith("PUT /upload/") for line in hub.asked) == 1


def test_commit_fails(hub, api, folder, content):
    hub.fail(1, 500, "/commit/")
    with pytest.raises(HfHubHTTPError, match="an injected fault"):
        api.upload_folder(repo_id=REPO, folder_path=folder, repo_type="dataset")
    assert not uploaded(hub) and api.upload_folder(repo_id=REPO, folder_path=folder, repo_type="dataset")
    assert uploaded(hub) == content


def test_download_resumes(hub, api, folder, content, monkeypatch):
    api.upload_folder(repo_id=REPO, folder_path=folder, repo_type="dataset")
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 20)
    hub.cut(1, 2_500_000, "/download/")
    where = {"filename": "annotations/audio.bin", "repo_type": "dataset", "token": hub.token}
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        hf_hub_download(REPO, **where)
    [partial] = hub.home.rglob("*.incomplete")
    assert partial.stat().st_size == 2 << 20
    assert Path(hf_hub_download(REPO, **where)).read_bytes() == content["annotations/audio.bin"]


def test_hang(hub, api):
    hub.hang(1, 30, "/api/datasets/")
    with pytest.raises(requests.exceptions.ReadTimeout):
        api.dataset_info(REPO, timeout=0.2)
    assert api.dataset_info(REPO, timeout=5).id == REPO


def test_access(hub, api, folder):
    api.create_repo("user/public", repo_type="dataset")
    public = {"repo_id": "user/public", "folder_path": folder, "repo_type": "dataset"}
    for token, error in ((False, "401"), (hub.read_token, "403"), ("hf_wrong", "401")):
        with pytest.raises(HfHubHTTPError, match=error):
            HfApi(token=token).create_repo("user/new", repo_type="dataset")
        with pytest.raises(HfHubHTTPError, match=error):
            HfApi(token=token).upload_folder(**public)
    assert not uploaded(hub, "user/public") and hub.repos.keys() == {REPO, "user/public"}

    for client in (HfApi(), HfApi(token=False)):
        assert client.repo_exists("user/public", repo_type="dataset")
        with pytest.raises(RepositoryNotFoundError):
            client.dataset_info(REPO)
        with pytest.raises(RepositoryNotFoundError):
            client.auth_check(REPO, repo_type="dataset")
        with pytest.raises(RepositoryNotFoundError):
            client.hf_hub_download(REPO, "README.md", repo_type="dataset")
    with pytest.raises(requests.HTTPError, match="Invalid user token"):
        HfApi(token="hf_wrong").whoami()
    assert HfApi(token=hub.read_token).dataset_info(REPO).private
    api.auth_check(REPO, repo_type="dataset")
    assert api.whoami()["name"] == "user" and api.whoami()["auth"]["accessToken"]["role"] == "write"
    assert hub.token not in str(hub.asked) + str(vars(hub.repos[REPO]))


def test_repointing_ends(tmp_path):
    before = constants.ENDPOINT, constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE, datasets.config.HF_ENDPOINT
    with HubServer(tmp_path) as running, running.repointed():
        assert constants.ENDPOINT == datasets.config.HF_ENDPOINT == running.url and not constants.HF_HUB_OFFLINE
        assert not HfApi().repo_exists("user/any", repo_type="dataset") and running.asked
    after = constants.ENDPOINT, constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE, datasets.config.HF_ENDPOINT
    assert after == before and not [thread for thread in threading.enumerate() if "process_request" in thread.name]


def test_uncovered(hub, api):
    with pytest.raises(HfHubHTTPError, match="does not cover"):
        api.create_branch(REPO, branch="other", repo_type="dataset")
