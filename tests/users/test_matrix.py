"""The matrix of types in the docs is what the suite makes."""

from tests.users.matrix import PAGE, make_page


def test_the_page_has_the_tables_that_the_suite_makes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == make_page(page)


def test_every_kind_that_the_suite_runs_comes_back_the_same() -> None:
    tables = make_page(PAGE.read_text(encoding="utf-8"))
    assert "| another |" not in tables
