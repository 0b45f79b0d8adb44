"""A local server that speaks the API of the Hugging Face Hub for dataset repositories, well and badly.

Covered is what `upload_folder`, `upload_large_folder`, `snapshot_download`, `hf_hub_download`, `HfFileSystem` and
`load_dataset` ask for; `Handler.answer` is the list. All else is answered by 501: Xet, multipart LFS, branches, tags,
pull requests, models, spaces, the dataset viewer. READMEs are not validated, `.gitignore` is not honoured, nothing is
paginated, `cardData` is missing, `expand` selects nothing, and `lastCommit` is the commit that was asked for.

As on the Hub, a new repository holds `.gitattributes` and one commit, LFS files are downloaded by a redirect, and what
is private does not exist for those without a token. `hub.token` can write, `hub.read_token` only read, both as `user`.
Tokens are compared, never recorded. Addresses of LFS files are "signed", and need none; repositories share these files.

    def test_something(hub):                # huggingface_hub and datasets of this process talk to it
        api = HfApi(token=hub.token)        # nobody is logged in; a test that wants that sets HF_TOKEN
        hub.cut(1, 1 << 20, "/upload/")     # the next PUT of an LFS file breaks off after 1 MB

Paths for faults: `/repos/create`, `/preupload/`, `/objects/batch`, `/upload/` (PUT of an LFS file), `/objects/verify`,
`/commit/`, `/tree/`, `/resolve/`, `/download/` (GET of an LFS file). `hub.asked` has all requests: "PUT /upload/OID".

The clients of this process do not wait between attempts; in a subprocess with `hub.environment()` they wait 1, 2, 4, 8
and 8 s. For both the server is the proxy: what would leave this machine is refused, and seen in `hub.asked`.
"""

import base64
import hmac
import json
import re
import secrets
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote

import pytest

DATE = "2026-01-01T00:00:00.000Z"
LFS_SUFFIXES = (".arrow", ".bin", ".flac", ".gz", ".mp3", ".npy", ".parquet", ".safetensors", ".tar", ".wav", ".zip")
LFS_FROM_BYTES = 10_000_000
ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()


@dataclass(frozen=True)
class File:
    data: bytes
    is_lfs: bool = False

    @cached_property
    def etag(self):
        """SHA-256 of an LFS file, the name of the blob in git of others."""
        return sha256(self.data).hexdigest() if self.is_lfs else git_oid(self.data)

    @cached_property
    def info(self):
        if not self.is_lfs:
            return {"size": len(self.data), "oid": self.etag}
        size, version = len(self.data), "version https://git-lfs.github.com/spec/v1"
        pointer = f"{version}\noid sha256:{self.etag}\nsize {size}\n".encode()
        lfs = {"oid": self.etag, "sha256": self.etag, "size": size, "pointerSize": len(pointer)}
        return {"size": size, "oid": git_oid(pointer), "lfs": lfs}


def git_oid(content):
    return sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Repo:
    def __init__(self, name, private):
        self.name, self.private, self.commits = name, private, []
        self.commit({".gitattributes": File(ATTRIBUTES)}, "initial commit")

    def commit(self, tree, message):
        content = [self.name, message, *(commit.sha for commit in self.commits), *(tree[path].etag for path in tree)]
        sha = sha1("\n".join(content).encode()).hexdigest()
        self.commits.append(SimpleNamespace(sha=sha, message=message, tree=tree))

    def at(self, revision):
        for commit in reversed(self.commits):
            if revision in ("main", commit.sha):
                return commit
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")


class Refused(Exception):
    def __init__(self, status, message, code="", **headers):
        super().__init__(message)
        self.status, self.headers = status, {"X-Error-Message": message, "X-Error-Code": code, **headers}


class HubServer(ThreadingHTTPServer):
    """Runs inside `with HubServer(home) as hub`; the files of clients go into the folder `home`."""

    daemon_threads = False  # the end waits for all of them
    request_queue_size = 64

    def __init__(self, home):
        super().__init__(("127.0.0.1", 0), Handler)
        self.home, self.url = Path(home), f"http://127.0.0.1:{self.server_port}"
        self.token, self.read_token = (f"hf_{secrets.token_hex(17)}" for _ in range(2))
        self.repos, self.blobs = {}, {}
        self.asked, self.faults = [], []
        self.lock, self.stopping = threading.Lock(), threading.Event()

    def fail(self, times, status=500, path_contains=""):
        """Answers the next requests with an error. Clients try six times in all if it is 500, 502, 503 or 504."""
        self.faults.append(["fail", times, status, path_contains])

    def hang(self, times, seconds, path_contains=""):
        """Does what the next requests ask for only after a while, even if nobody listens any more."""
        self.faults.append(["hang", times, seconds, path_contains])

    def cut(self, times, after_bytes, path_contains=""):
        """Hangs up in the middle of the bodies of the next requests, or of the answers to those that have none."""
        self.faults.append(["cut", times, after_bytes, path_contains])

    def next_fault(self, path):
        with self.lock:
            for fault in self.faults:
                if fault[1] > 0 and fault[3] in path:
                    fault[1] -= 1
                    return fault[0], fault[2]
        return "", None

    def files(self, repo):
        return {path: file.data for path, file in self.repos[repo].commits[-1].tree.items()}

    def commits(self, repo):
        """The messages, oldest first."""
        return [commit.message for commit in self.repos[repo].commits]

    def private(self, repo):
        return self.repos[repo].private

    def environment(self, token=""):
        """The variables with which another process talks to this server, logged in if there is a token."""
        folders = {"HF_HOME": "", "HF_HUB_CACHE": "hub", "HF_ASSETS_CACHE": "assets", "HF_XET_CACHE": "xet"}
        folders |= {"HF_TOKEN_PATH": "token", "HF_DATASETS_CACHE": "datasets", "HF_MODULES_CACHE": "modules"}
        off = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_UPDATE_DOWNLOAD_COUNTS")
        switches = {**dict.fromkeys(off, "0"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        proxies = {"http_proxy": self.url, "https_proxy": self.url, "no_proxy": "127.0.0.1/32"}
        paths = {name: str(self.home / folder) for name, folder in folders.items()}
        return {"HF_ENDPOINT": self.url, "HF_TOKEN": token, **paths, **switches, **proxies}

    @contextmanager
    def repointed(self):
        """The clients of this process talk to this server, although they read their variables when imported."""
        import datasets  # noqa: F401 - what is imported only later would remember this server
        from huggingface_hub import HfFileSystem, file_download, hf_api, repocard, utils  # noqa: F401

        variables = self.environment()
        values = {name: value == "1" if value in ("0", "1") else value for name, value in variables.items()}
        values |= {"ENDPOINT": self.url, "USE_PARQUET_EXPORT": False, "WAITING_TIME_IF_NO_TASKS": 0.01}
        values["HUGGINGFACE_CO_URL_TEMPLATE"] = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        values["HUB_DATASETS_URL"] = self.url + "/datasets/{repo_id}/resolve/{revision}/{path}"
        values["DOWNLOADED_DATASETS_PATH"] = values["EXTRACTED_DATASETS_PATH"] = str(self.home / "downloads")
        values["time"] = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(min(seconds, 0.01))})
        forget_sessions = getattr(utils, "reset_sessions", None) or utils.close_session  # before 1.0, or since
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            for name, module in list(sys.modules.items()):
                if name.partition(".")[0] in ("huggingface_hub", "datasets"):
                    for constant in vars(module).keys() & values.keys():
                        patch.setattr(module, constant, values[constant])
            HfFileSystem.clear_instance_cache()
            forget_sessions()
            yield
        forget_sessions()

    def handle_error(self, request, client_address):
        """A client that has hung up is no news."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request and its answer: HTTP/1.0, so that no connection outlives it."""

    timeout = 30  # seconds without a byte

    def do(self):
        self.server.asked.append(f"{self.command} {self.path}")
        kind, value = self.server.next_fault(self.path)
        self.cut_after = value if kind == "cut" else None
        if not self.read_body():
            return
        if kind == "hang":
            self.server.stopping.wait(value)
        try:
            self.send(value, {"error": "an injected fault"}) if kind == "fail" else self.answer()
        except Refused as why:
            self.send(why.status, {"error": str(why)}, **why.headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_CONNECT = do

    def read_body(self):
        """Whether all of it has come. Clients that use httpx may send a file in chunks."""
        length, limit = int(self.headers.get("Content-Length", 0)), self.cut_after
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = b""
            while (limit is None or len(self.body) < limit) and (size := int(self.rfile.readline(), 16)):
                self.body += self.rfile.read(size + 2)[:-2]
            return limit is None
        self.body = self.rfile.read(length if limit is None else min(length, limit))
        return len(self.body) == length and (limit is None or not length)

    def answer(self):
        path, _, query = self.path.partition("?")  # of a request to a proxy, path is a whole address
        query, parts = parse_qs(query), [unquote(part) for part in path.strip("/").split("/")]
        match [self.command.replace("HEAD", "GET"), *parts]:
            case ["GET", "api", "whoami-v2"]:
                token = {"displayName": "test", "role": self.require()}
                self.send(200, {"type": "user", "name": "user", "orgs": [], "auth": {"accessToken": token}})
            case ["POST", "api", "validate-yaml"]:
                self.send(200, {"errors": [], "warnings": []})
            case ["POST", "api", "repos", "create"]:
                self.create(**json.loads(self.body))
            case ["PUT", "upload", oid]:
                self.upload(oid)
            case ["GET", "download", sha, oid] if oid in self.server.blobs:  # clients 1.x look for the commit here
                self.send_file(File(self.server.blobs[oid], is_lfs=True), **{"X-Repo-Commit": sha})
            case ["GET", "datasets", user, name, "resolve", revision, *path]:
                self.resolve(self.repo(user, name).at(revision), "/".join(path))
            case ["POST", "datasets", user, name, "info", "lfs", "objects", step]:
                self.lfs(self.repo(user, name.removesuffix(".git"), write=True), step, json.loads(self.body))
            case ["GET", "api", "datasets", name]:
                raise Refused(404, "Repository not found", "RepoNotFound")
            case ["GET", "api", "datasets", user, name, "auth-check"]:
                self.send(200, {"name": self.repo(user, name).name})
            case ["GET", "api", "datasets", user, name] | ["GET", "api", "datasets", user, name, "revision", _]:
                self.describe(self.repo(user, name), parts[5] if parts[4:] else "main", "blobs" in query)
            case ["GET", "api", "datasets", user, name, "tree", revision, *folder]:
                deep = query.get("recursive") in (["True"], ["true"])
                self.list_tree(self.repo(user, name).at(revision), "/".join(folder), deep)
            case ["POST", "api", "datasets", user, name, "paths-info", revision]:
                found = entries(self.repo(user, name).at(revision))
                self.send(200, [found[path] for path in parse_qs(self.body.decode())["paths"] if path in found])
            case ["POST", "api", "datasets", user, name, "preupload", revision]:
                self.preupload(self.repo(user, name, write=True).at(revision).tree, json.loads(self.body)["files"])
            case ["POST", "api", "datasets", user, name, "commit", "main"] if "create_pr" not in query:
                self.commit(self.repo(user, name, write=True), map(json.loads, self.body.splitlines()))
            case _:
                raise Refused(501, f"hub_server.py does not cover {self.command} {self.path}")

    def require(self, write=False, code=""):
        """`write` or `read`, by the token."""
        sent = self.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        if not sent:
            raise Refused(401, "Invalid username or password.", code)
        if hmac.compare_digest(sent, self.server.token.encode()):
            return "write"
        if not hmac.compare_digest(sent, self.server.read_token.encode()):
            raise Refused(401, "Invalid credentials in Authorization header")
        if write:
            raise Refused(403, "Forbidden: you must use a write token to upload to a repository.")
        return "read"

    def repo(self, user, name, write=False):
        repo = self.server.repos.get(f"{user}/{name}")
        if write or repo is None or repo.private or "Authorization" in self.headers:
            self.require(write, code="RepoNotFound")
        if repo is None:
            raise Refused(404, "Repository not found", "RepoNotFound")
        return repo

    def create(self, name, organization=None, type="model", private=False, visibility=""):
        self.require(write=True)
        if type != "dataset" or organization not in (None, "user"):
            raise Refused(403, f'You don\'t have the rights to create a {type} under the namespace "{organization}"')
        answer = {"url": f"{self.server.url}/datasets/user/{name}", "name": f"user/{name}"}
        with self.server.lock:
            if answer["name"] in self.server.repos:
                return self.send(409, {"error": "You already created this dataset repo", **answer})
            self.server.repos[answer["name"]] = Repo(answer["name"], private or visibility == "private")
        self.send(200, answer)

    def preupload(self, tree, files):
        for file in files:
            binary = b"\0" in base64.b64decode(file.pop("sample")) or file["path"].endswith(LFS_SUFFIXES)
            file["uploadMode"] = "lfs" if binary or file["size"] >= LFS_FROM_BYTES else "regular"
            file["shouldIgnore"] = False
            file["oid"] = tree[file["path"]].etag if file["path"] in tree else None
        self.send(200, {"files": files})

    def lfs(self, repo, step, asked):
        if step == "verify":
            here = len(self.server.blobs.get(asked["oid"], b"")) == asked["size"]
            return self.send(200 if here else 404, {})
        for wanted in asked["objects"]:
            if wanted["oid"] not in self.server.blobs:  # what is there already needs no actions
                verify = f"{self.server.url}/datasets/{repo.name}.git/info/lfs/objects/verify"
                upload = f"{self.server.url}/upload/{wanted['oid']}"
                wanted["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
        self.send(200, {"transfer": "basic", "objects": asked["objects"]})

    def upload(self, oid):
        if sha256(self.body).hexdigest() != oid:
            raise Refused(400, "The content is not what was promised")
        self.server.blobs[oid] = self.body
        self.send(200)

    def commit(self, repo, lines):
        header = next(lines)["value"]
        with self.server.lock:
            head, tree = repo.commits[-1], dict(repo.commits[-1].tree)
            if header.get("parentCommit", head.sha) != head.sha:
                raise Refused(412, "A commit has happened since. Please refresh and try again.")
            for line in lines:
                self.change(tree, line["key"], line["value"]["path"], line["value"])
            repo.commit(tree, f"{header['summary']}\n\n{header['description']}".strip())
        sha = repo.commits[-1].sha
        url = f"{self.server.url}/datasets/{repo.name}/commit/{sha}"
        self.send(200, {"success": True, "commitOid": sha, "commitUrl": url})

    def change(self, tree, kind, path, value):
        if kind == "file":
            tree[path] = File(base64.b64decode(value["content"]))
        elif kind == "lfsFile":
            if value["oid"] not in self.server.blobs:
                raise Refused(400, f"The LFS file of {path} was not uploaded")
            tree[path] = File(self.server.blobs[value["oid"]], is_lfs=True)
        else:  # deletedFile, deletedFolder
            gone = [name for name in tree if name == path or (kind[7:] == "Folder" and name.startswith(path))]
            if not gone:
                raise Refused(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            for name in gone:
                del tree[name]

    def describe(self, repo, revision, with_blobs):
        commit, siblings = repo.at(revision), []
        for path, file in commit.tree.items():
            blob = {"blobId": file.info["oid"], **file.info} if with_blobs else {}
            siblings.append({"rfilename": path, **blob})
        info = {"id": repo.name, "author": "user", "sha": commit.sha, "private": repo.private, "siblings": siblings}
        self.send(200, {**info, "lastModified": DATE, "createdAt": DATE, "gated": False, "xetEnabled": False})

    def list_tree(self, commit, folder, deep):
        prefix = folder and folder + "/"
        found = [entry for path, entry in entries(commit).items() if path.startswith(prefix)]
        if not found:
            raise Refused(404, f"{folder} does not exist", "EntryNotFound")
        self.send(200, [entry for entry in found if deep or "/" not in entry["path"][len(prefix) :]])

    def resolve(self, commit, path):
        headers = {"X-Repo-Commit": commit.sha}
        if path not in commit.tree:
            raise Refused(404, "Entry not found", "EntryNotFound", **headers)
        file = commit.tree[path]
        if not file.is_lfs:
            return self.send_file(file, **headers)
        headers |= {"X-Linked-Size": len(file.data), "X-Linked-ETag": f'"{file.etag}"'}
        self.send(302, Location=f"{self.server.url}/download/{commit.sha}/{file.etag}", **headers)

    def send_file(self, file, **headers):
        headers |= {"ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self.send(200, file.data, **headers)
        start, end = int(asked[1]), int(asked[2] or len(file.data)) + 1
        part = file.data[start:end]
        if not part:
            raise Refused(416, "Range not satisfiable", **{"Content-Range": f"bytes */{len(file.data)}"})
        headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(file.data)}"
        self.send(206, part, **headers)

    def send(self, status, content=b"", **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: self.cut_after])

    def log_message(self, *_):
        """Quiet."""


def entries(commit):
    """All folders and files of a commit, in order, by their paths."""
    found, last = {}, {"id": commit.sha, "title": commit.message, "date": DATE}
    for path in sorted(commit.tree):
        for parent in reversed(Path(path).parents[:-1]):
            oid = sha1(str(parent).encode()).hexdigest()
            found[str(parent)] = {"type": "directory", "path": str(parent), "oid": oid, "size": 0, "lastCommit": last}
        found[path] = {"type": "file", "path": path, **commit.tree[path].info, "lastCommit": last}
    return found


@pytest.fixture
def hub(tmp_path_factory):
    with HubServer(tmp_path_factory.mktemp("hf_home")) as running, running.repointed():
        yield running
