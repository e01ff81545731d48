"""Options are made from the settings, which alone say what there is and what it means."""

import click

from workflow_server.app.commands.options import list_options, make_option
from workflow_server.app.settings import Settings


def parse(*arguments: str) -> dict[str, object]:
    """Return what is given of the options of all settings."""
    context = click.Command("serve", params=list_options()).make_context("serve", [*arguments])
    return {name: value for name, value in context.params.items() if value not in (None, ())}


def test_every_setting_with_a_flag_is_one_option() -> None:
    names = [option.name for option in list_options()]
    assert sorted(map(str, names)) == sorted(Settings.model_fields.keys() - {"api_keys"})


def test_an_option_is_described_as_its_setting_is() -> None:
    assert make_option("port").help == (
        "Port to listen on; 0 takes a free one. [WORKFLOW_SERVER_PORT; default: 8000]"
    )


def test_a_flag_may_be_spelled_otherwise_than_its_setting() -> None:
    given = parse("--api-keys", "keys.json", "--cors-origin", "https://a.example")
    assert given == {"api_keys_file": "keys.json", "cors_origins": ("https://a.example",)}


def test_an_origin_may_be_given_again_and_again() -> None:
    assert parse("--cors-origin", "a", "--cors-origin", "b") == {"cors_origins": ("a", "b")}


def test_what_is_no_number_is_left_to_the_settings() -> None:
    arguments = ("--port", "1", "--rate-limit", "0.5", "--persistence-backoff", "1,x", "--debug")
    assert parse(*arguments) == {
        "port": 1,
        "rate_limit": 0.5,
        "persistence_backoff": "1,x",
        "debug": True,
    }
