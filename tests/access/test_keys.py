"""API keys: documents and files of them, looked at again, compared in constant time, issued."""

import hmac
import json
import logging
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.command import run_command, serving, write, write_echo
from tests.support.credentials import KeyBook
from workflow_server.app.access import Access, AccessError, ApiKey, ApiKeys, Scope
from workflow_server.app.access.issuing import add_key, issue_key
from workflow_server.app.access.keys import hash_key, parse_keys
from workflow_server.app.errors import Unauthenticated

HASH = "sha256:" + "0" * 64
ENTRY = {"name": "a", "hash": HASH, "scopes": ["read"]}


async def is_taken(access: Access, credential: str) -> bool:
    try:
        await access.identify(credential)
    except Unauthenticated:
        return False
    return True


def test_a_document_may_be_json_or_toml() -> None:
    as_json = json.dumps({"keys": [{**ENTRY, "expires_at": "2027-01-01T00:00:00Z"}]})
    as_toml = f'[[keys]]\nname="a"\nhash="{HASH}"\nscopes=["read"]\nexpires_at=2027-01-01T00:00:00Z'
    expected = (
        ApiKey(
            name="a",
            hash=HASH,
            scopes=(Scope.READ,),
            expires_at=datetime(2027, 1, 1, tzinfo=UTC),
        ),
    )
    assert [parse_keys(text, where="it") for text in (as_json, as_toml)] == [expected, expected]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "neither JSON nor TOML"),
        ("keys = 1", "no document of API keys: keys"),
        (json.dumps({"keys": [{"name": "a"}]}), "keys.0.hash: Field required"),
        (json.dumps({"keys": [{**ENTRY, "key": "wfs_secret"}]}), "keys.0.key: Extra inputs"),
        (json.dumps({"keys": [{**ENTRY, "hash": "wfs_secret"}]}), "keys.0.hash"),
        (json.dumps({"keys": [{**ENTRY, "scopes": []}]}), "keys.0.scopes"),
        (json.dumps({"keys": [{**ENTRY, "scopes": ["wfs_secret"]}]}), "keys.0.scopes.0"),
        (json.dumps({"keys": [{**ENTRY, "tenant": "a/b"}]}), "keys.0.tenant"),
        (json.dumps({"keys": [{**ENTRY, "tenant": ""}]}), "keys.0.tenant"),
        (json.dumps({"keys": [{**ENTRY, "name": "a\nb"}]}), "keys.0.name"),
        (json.dumps({"keys": [{**ENTRY, "expires_at": "2027-01-01T00:00"}]}), "keys.0.expires_at"),
        (json.dumps({"keys": [ENTRY, ENTRY]}), "two keys named 'a'"),
    ],
)
def test_a_document_that_cannot_be_is_refused_without_repeating_it(text: str, told: str) -> None:
    with pytest.raises(AccessError) as refused:
        parse_keys(text, where="it")
    assert told in str(refused.value)
    assert "wfs_secret" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="cannot be read"):
        ApiKeys(file=tmp_path / "absent.json")


async def test_a_file_is_looked_at_again(book: KeyBook) -> None:
    access = book.open_access()
    key = book.add("new", Scope.READ)
    assert await is_taken(access, key)
    book.revoke("new")
    assert not await is_taken(access, key)


async def test_a_file_that_is_gone_has_no_keys(book: KeyBook) -> None:
    key = book.add("new", Scope.READ)
    access = book.open_access()
    book.file.unlink()
    assert not await is_taken(access, key)


async def test_a_damaged_file_leaves_the_former_keys_and_is_logged(
    book: KeyBook, caplog: pytest.LogCaptureFixture
) -> None:
    key = book.add("new", Scope.READ)
    access = book.open_access()
    book.file.write_text("{")
    assert await is_taken(access, key)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    book.file.write_text('{"keys": []}')
    assert not await is_taken(access, key)


async def test_a_file_is_not_looked_at_more_often_than_its_interval(book: KeyBook) -> None:
    now = 0.0
    keys = ApiKeys(file=book.file, look_interval=1.0, timer=lambda: now)
    secret = book.add("new", Scope.READ)
    assert await keys.find(secret) is None
    now = 1.0
    assert await keys.find(secret) is not None


async def test_keys_of_the_environment_stand_beside_those_of_a_file(book: KeyBook) -> None:
    secret, key = issue_key("fixed", scopes=[Scope.READ], tenant=None, lifetime=None)
    keys = ApiKeys([key], file=book.file, look_interval=0)
    book.file.unlink()
    assert await keys.find(secret) == key


def test_a_name_is_not_taken_twice_by_file_and_environment(book: KeyBook) -> None:
    _, key = issue_key("first", scopes=[Scope.READ], tenant=None, lifetime=None)
    with pytest.raises(AccessError, match="two keys named 'first'"):
        ApiKeys([key], file=book.file)


async def test_every_key_is_compared_in_constant_time(
    book: KeyBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[object] = []
    compare: Callable[[str, str], bool] = hmac.compare_digest

    def note(kept: str, offered: str) -> bool:
        compared.append((kept, offered))
        return compare(kept, offered)

    monkeypatch.setattr(hmac, "compare_digest", note)
    secrets = [book.add(f"key-{number}", Scope.READ) for number in range(3)]
    keys = parse_keys(book.file.read_text(), where="the file")
    for credential in (secrets[0], secrets[2], "wfs_wrong"):
        compared.clear()
        await ApiKeys(file=book.file).find(credential)
        assert compared == [(key.hash, hash_key(credential)) for key in keys]


def test_an_issued_key_is_random_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    secrets = set()
    for number in range(3):
        secret, key = issue_key(
            f"k{number}", scopes=[Scope.RUN], tenant="acme", lifetime=timedelta(days=1)
        )
        add_key(tmp_path / "keys.json", key)
        secrets.add(secret)
    text = (tmp_path / "keys.json").read_text()
    assert {len(secret) for secret in secrets} == {47}
    assert [secret for secret in secrets if secret in text or secret[4:] in text] == []


@pytest.mark.parametrize("name", ["keys.json", "keys.toml"])
def test_a_file_is_made_for_its_owner_alone_and_keeps_the_mode_it_is_given(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    KeyBook(file).add("one", Scope.READ)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    KeyBook(file).add("two", Scope.RUN, tenant="acme")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    keys = parse_keys(file.read_text(), where=name)
    assert [(key.name, key.scopes, key.tenant) for key in keys] == [
        ("one", (Scope.READ,), None),
        ("two", (Scope.RUN,), "acme"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_toml_file_keeps_its_comments(tmp_path: Path) -> None:
    file = write(tmp_path / "keys.toml", "# who may call")
    KeyBook(file).add("one", Scope.READ)
    assert file.read_text().startswith("# who may call\n\n[[keys]]\n")


class TestTheCommand:
    def test_prints_the_key_and_nothing_else_and_adds_its_hash(self, tmp_path: Path) -> None:
        made = run_command(
            tmp_path,
            *("key", "create", "--name", "ada", "--scope", "run", "--scope", "read"),
            *("--tenant", "acme", "--expires", "90d", "--file", "keys.json"),
        )
        (key,) = parse_keys((tmp_path / "keys.json").read_text(), where="the file")
        assert key.created_at is not None
        assert key.model_dump() == {
            "name": "ada",
            "hash": hash_key(made.stdout.strip()),
            "scopes": (Scope.RUN, Scope.READ),
            "tenant": "acme",
            "created_at": key.created_at,
            "expires_at": key.created_at + timedelta(days=90),
        }
        assert (made.stdout.count("\n"), made.stderr) == (1, "")

    def test_takes_the_file_of_the_settings(self, tmp_path: Path) -> None:
        variables = {"WORKFLOW_SERVER_API_KEYS_FILE": "set.json"}
        run_command(tmp_path, "key", "create", "--name", "a", "--scope", "read", **variables)
        assert len(parse_keys((tmp_path / "set.json").read_text(), where="the file")) == 1

    def test_shows_without_a_file_what_to_set(self, tmp_path: Path) -> None:
        made = run_command(tmp_path, "key", "create", "--name", "a", "--scope", "read")
        document = made.stderr.partition("='")[2].removesuffix("'\n")
        (key,) = parse_keys(document, where="it")
        assert key.hash == hash_key(made.stdout.strip())

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (("--name", "a/b", "--scope", "read"), "--name cannot be that"),
            (("--name", "a", "--scope", "read", "--tenant", "a b"), "--tenant cannot be that"),
            (("--name", "a", "--scope", "read", "--expires", "soon"), "--expires is 'soon'"),
            (("--name", "a", "--scope", "all"), "'all' is not one of"),
            (("--name", "a"), "Missing option '--scope'"),
            (("--name", "a", "--scope", "read", "--file", "no/keys.json"), "cannot be written"),
        ],
    )
    def test_refuses_what_cannot_be(
        self, tmp_path: Path, arguments: tuple[str, ...], told: str
    ) -> None:
        refused = run_command(tmp_path, "key", "create", *arguments)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert told in refused.stderr


class TestServing:
    def test_another_address_without_credentials_is_warned_of(self, tmp_path: Path) -> None:
        write_echo(tmp_path / "flows.py", "echo = Echo()")
        with serving(tmp_path, "flows.py", "--host", "0.0.0.0") as server:
            warning = [line for line in server.lines if "WARNING" in line]
            assert warning == [
                "*** WARNING: ANYBODY WHO REACHES 0.0.0.0 MAY START, READ AND CANCEL RUNS. ***"
            ]

    def test_another_address_with_credentials_is_not(self, tmp_path: Path) -> None:
        write_echo(tmp_path / "flows.py", "echo = Echo()")
        KeyBook(tmp_path / "keys.json").add("a", Scope.READ)
        arguments = ("flows.py", "--host", "0.0.0.0", "--api-keys", "keys.json")
        with serving(tmp_path, *arguments) as server:
            assert [line for line in server.lines if "WARNING" in line] == []

    @pytest.mark.parametrize(
        ("variables", "told"),
        [
            ({"API_KEYS_FILE": "absent.json"}, "The API keys in absent.json cannot be read"),
            ({"API_KEYS": "{}]"}, "WORKFLOW_SERVER_API_KEYS is neither JSON nor TOML"),
            ({"JWT_ISSUER": "https://login"}, "Tokens take three settings"),
            ({"JWT_ALGORITHMS": "HS256"}, "WORKFLOW_SERVER_JWT_ALGORITHMS cannot be 'HS256'"),
            ({"JWT_ALGORITHMS": "none"}, "WORKFLOW_SERVER_JWT_ALGORITHMS cannot be 'none'"),
        ],
    )
    def test_settings_that_cannot_be_are_refused(
        self, tmp_path: Path, variables: dict[str, str], told: str
    ) -> None:
        write_echo(tmp_path / "flows.py", "echo = Echo()")
        given = {f"WORKFLOW_SERVER_{name}": value for name, value in variables.items()}
        refused = run_command(tmp_path, "serve", "flows.py", **given)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert told in refused.stderr

    def test_a_server_that_would_stay_open_in_spite_of_the_settings_is_refused(
        self, tmp_path: Path
    ) -> None:
        own = ("from workflow_server import WorkflowServer", "server = WorkflowServer()")
        write(tmp_path / "own.py", *own)
        KeyBook(tmp_path / "keys.json").add("a", Scope.READ)
        variables = {"WORKFLOW_SERVER_API_KEYS_FILE": "keys.json"}
        refused = run_command(tmp_path, "serve", "own.py", **variables)
        assert refused.returncode == 2
        assert "makes its own WorkflowServer" in refused.stderr
