"""Sources become named workflows, under stable module names that hide nothing."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
from workflows.plugins.basic import basic_runtime

from tests.support.command import ECHO, write, write_echo
from workflow_server.app.loader import LoadError, load_sources
from workflow_server.app.server import WorkflowServer
from workflow_server.former_names import NAMES

# As files did before there was one name.
MAKES_SERVER = ("from app.server import WorkflowServer", "server = WorkflowServer()")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, and forget what was imported from it afterwards.

    Our packages are not known by their former names, as in a process that has just begun.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] in NAMES]:
        monkeypatch.delitem(sys.modules, name)
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def load(*sources: str | Path) -> dict[str, str]:
    """Return the origin of each workflow in the sources, by name."""
    loaded = load_sources([str(source) for source in sources])
    return {workflow.name: workflow.origin for workflow in loaded.workflows}


def refuse(*sources: str | Path) -> str:
    """Return the sentence with which the sources are refused."""
    with pytest.raises(LoadError) as refusal:
        load_sources([str(source) for source in sources])
    return str(refusal.value)


class TestContents:
    def test_workflows_have_the_names_of_their_variables(self, folder: Path) -> None:
        write_echo(folder / "flows.py", "first = Echo()", "second = Echo()")
        assert load("flows.py") == {"first": "flows.py", "second": "flows.py"}

    def test_workflows_in_a_dict_have_its_keys(self, folder: Path) -> None:
        write_echo(folder / "flows.py", "flows = {'order-intake': Echo(), 'echo': Echo()}")
        assert load("flows.py") == {"order-intake": "flows.py", "echo": "flows.py"}

    def test_private_variables_are_not_served(self, folder: Path) -> None:
        write_echo(
            folder / "flows.py", "_inner = Echo()", "outer = Echo()", "_flows = {'a': outer}"
        )
        assert load("flows.py") == {"outer": "flows.py"}

    def test_a_workflow_with_two_variables_is_served_under_the_first(self, folder: Path) -> None:
        write_echo(folder / "flows.py", "first = Echo()", "second = first")
        assert load("flows.py") == {"first": "flows.py"}

    def test_a_key_wins_over_a_variable_of_the_same_workflow(self, folder: Path) -> None:
        write_echo(folder / "flows.py", "echo = Echo()", "flows = {'order-intake': echo}")
        assert load("flows.py") == {"order-intake": "flows.py"}

    def test_a_key_and_a_variable_of_one_name_are_refused(self, folder: Path) -> None:
        write_echo(folder / "flows.py", "echo = Echo()", "flows = {'echo': Echo()}")
        assert refuse("flows.py") == (
            "flows.py holds two workflows called echo: rename one of them."
        )

    def test_a_class_without_an_instance_is_refused(self, folder: Path) -> None:
        write_echo(folder / "flows.py")
        assert refuse("flows.py") == (
            "flows.py defines the workflow class Echo but makes no instance of it: "
            "add a line such as `echo = Echo()`."
        )

    @pytest.mark.parametrize(
        ("name", "parameters", "line"),
        [
            ("RAGWorkflow", "self", "rag_workflow = RAGWorkflow()"),
            ("OrderIntake", "self, shop='a', *more, **rest", "order_intake = OrderIntake()"),
            ("HTTP2Flow", "self, index, *, llm", "http2_flow = HTTP2Flow(index=…, llm=…)"),
        ],
    )
    def test_the_suggested_line_reads_well_and_names_what_the_class_needs(
        self, folder: Path, name: str, parameters: str, line: str
    ) -> None:
        write_echo(
            folder / "flows.py",
            f"class {name}(Echo):",
            f"    def __init__({parameters}): super().__init__()",
        )
        assert refuse("flows.py") == (
            f"flows.py defines the workflow class {name} but makes no instance of it: "
            f"add a line such as `{line}`."
        )

    def test_a_file_without_a_workflow_is_refused(self, folder: Path) -> None:
        write(folder / "flows.py", "from workflows import Workflow")
        assert refuse("flows.py") == (
            "flows.py holds no workflow: a public variable must hold a Workflow, "
            "a dict of them by name, or a WorkflowServer."
        )


class TestServersOfOtherPackages:
    PEER = (
        "class WorkflowServer:",
        "    def __init__(self): self.held, self.additional_events = {}, {}",
        "    def add_workflow(self, name, workflow, additional_events=()):",
        "        self.held[name] = workflow",
        "        self.additional_events[name] = additional_events",
        "    def get_workflows(self): return self.held",
    )

    @pytest.fixture(autouse=True)
    def peer(self, folder: Path) -> None:
        """Make a server importable that has the interface of the published one."""
        package = folder / "peers/llama_agents/server"
        write(package / "__init__.py", "from .server import WorkflowServer")
        write(package / "server.py", *self.PEER)
        sys.path.insert(0, str(folder / "peers"))

    def test_a_server_is_served_as_the_workflows_that_it_holds(self, folder: Path) -> None:
        write_echo(
            folder / "my_server.py",
            "from llama_agents.server import WorkflowServer",
            "unserved = Echo()",
            "server = WorkflowServer()",
            "server.add_workflow('first', Echo(), (Asked,))",
            "server.add_workflow('second', Echo())",
        )
        first, second = load_sources(["my_server.py"]).workflows
        assert (first.name, first.origin, second.name) == ("first", "my_server.py", "second")
        assert [event.__name__ for event in first.additional_events] == ["Asked"]
        assert second.additional_events == ()

    def test_a_server_is_found_by_its_name_too(self, folder: Path) -> None:
        write_echo(
            folder / "my_server.py",
            "from llama_agents.server import WorkflowServer",
            "server = WorkflowServer()",
            "server.add_workflow('first', Echo())",
        )
        assert load("my_server:server") == {"first": "my_server"}

    def test_a_workflow_no_longer_runs_through_the_server(self, folder: Path) -> None:
        write_echo(
            folder / "my_server.py",
            "from llama_agents.server import WorkflowServer",
            "from workflows.plugins.basic import BasicRuntime",
            "server = WorkflowServer()",
            "server.add_workflow('first', Echo(runtime=BasicRuntime()))",
        )
        [first] = load_sources(["my_server.py"]).workflows
        assert first.workflow.runtime is basic_runtime

    def test_a_server_without_a_workflow_is_refused(self, folder: Path) -> None:
        write(
            folder / "my_server.py",
            "from llama_agents.server import WorkflowServer",
            "server = WorkflowServer()",
        )
        assert refuse("my_server.py") == (
            "server is a WorkflowServer of llama_agents.server without a workflow: call its "
            "add_workflow where the module is imported, or import WorkflowServer from "
            "workflow_server."
        )


class TestServersThatAreNotInstalled:
    @pytest.mark.parametrize(
        ("package", "error"),
        [
            (
                "llama_agents.server",
                "ModuleNotFoundError: No module named 'llama_agents.server'",
            ),
            (
                "workflows.server",
                "ImportError: workflows.server requires the 'server' extra. Install with: "
                "pip install 'llama-index-workflows[server]'",
            ),
        ],
    )
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_an_import_is_refused_with_what_to_write_instead(
        self, folder: Path, package: str, error: str
    ) -> None:
        write(folder / "my_server.py", "", f"from {package} import WorkflowServer")
        assert refuse("my_server.py") == (
            f"my_server.py, line 2, fails to import ({error}): import WorkflowServer from "
            "workflow_server, or install llama-agents-server, whose workflows are then served."
        )


class TestProjects:
    @pytest.mark.parametrize("table", ["llamaagents", "llamadeploy"])
    @pytest.mark.parametrize("root", ["", "src/"])
    def test_a_folder_is_served_as_its_project_file_says(
        self, folder: Path, table: str, root: str
    ) -> None:
        write(
            folder / "pyproject.toml",
            f"[tool.{table}.workflows]",
            'order-intake = "shop.flows:echo"',
            'other = "shop.flows:_other"',
        )
        write(folder / f"{root}shop/__init__.py")
        write_echo(folder / f"{root}shop/base.py")
        write(
            folder / f"{root}shop/flows.py",
            "from shop.base import Echo",
            "echo, _other, unserved = Echo(), Echo(), Echo()",
        )
        write_echo(folder / "setup.py", "not_served = Echo()")
        assert load(".") == {"order-intake": "shop.flows", "other": "shop.flows"}

    def test_an_app_says_itself_what_it_serves(self, folder: Path) -> None:
        write(folder / "pyproject.toml", "[tool.llamaagents]", 'app = "shop:flows"')
        write_echo(folder / "shop.py", "flows = {'a': Echo(), 'b': Echo()}")
        assert load(folder) == {"a": "shop", "b": "shop"}

    def test_a_project_file_that_names_no_workflow_changes_nothing(self, folder: Path) -> None:
        write(folder / "pyproject.toml", "[project]", 'name = "shop"', "[tool.llamaagents]")
        write_echo(folder / "flows.py", "echo = Echo()")
        assert load(".") == {"echo": "flows.py"}

    @pytest.mark.parametrize("entry", ["nowhere:echo", "shop", "shop.py:echo", "./shop"])
    def test_an_entry_that_leads_nowhere_is_refused(self, folder: Path, entry: str) -> None:
        write(folder / "pyproject.toml", "[tool.llamadeploy.workflows]", f'echo = "{entry}"')
        assert refuse(".") == (
            f"pyproject.toml names {entry}, which is no name in a module that can be imported: "
            "write it as package.module:name, and install what it needs."
        )

    @pytest.mark.parametrize("line", ["[tool", "[tool.llamaagents]\napp = 1"])
    def test_a_project_file_that_cannot_be_read_is_refused(self, folder: Path, line: str) -> None:
        write(folder / "pyproject.toml", line)
        sentence = refuse(".")
        assert sentence.startswith("pyproject.toml cannot be read (")
        assert sentence.endswith("): fix the file.")


class TestFolders:
    def test_every_public_file_is_served(self, folder: Path) -> None:
        write_echo(folder / "flows/a.py", "a = Echo()")
        write_echo(folder / "flows/b.py", "b = Echo()")
        write_echo(folder / "flows/_c.py", "c = Echo()")
        write_echo(folder / "flows/inner/d.py", "d = Echo()")
        assert load("flows") == {"a": "flows/a.py", "b": "flows/b.py"}

    def test_files_without_workflows_are_passed_over(self, folder: Path) -> None:
        write_echo(folder / "flows/a.py", "a = Echo()")
        write_echo(folder / "flows/classes.py")
        write(folder / "flows/words.py", "WORDS = []")
        assert load("flows") == {"a": "flows/a.py"}

    def test_a_folder_without_workflows_is_refused(self, folder: Path) -> None:
        write(folder / "flows/words.py", "WORDS = []")
        write(folder / "flows/names.py", "NAMES = []")
        assert refuse("flows").startswith("flows holds no workflow: a public variable must hold")

    def test_a_folder_without_files_is_refused(self, folder: Path) -> None:
        (folder / "flows").mkdir()
        assert refuse("flows") == "There is no .py file in the folder flows: put a workflow there."

    def test_a_workflow_that_a_neighbour_imports_is_served_once_from_its_home(
        self, folder: Path
    ) -> None:
        write(folder / "flows/again.py", "from home import echo as renamed, Echo", "more = Echo()")
        write_echo(folder / "flows/home.py", "echo = Echo()")
        assert load("flows") == {"echo": "flows/home.py", "more": "flows/again.py"}

    def test_a_package_is_served_with_its_relative_and_its_absolute_imports(
        self, folder: Path
    ) -> None:
        write(folder / "flows/__init__.py", "WORDS = ['a']")
        write_echo(folder / "flows/_base.py")
        write(folder / "flows/a.py", "from . import WORDS", "from ._base import Echo", "a = Echo()")
        write(folder / "flows/b.py", "from flows.a import Echo", "import flows._base", "b = Echo()")
        loaded = load_sources(["flows"])
        assert {type(item.workflow).__module__ for item in loaded.workflows} == {
            "workflow_files.flows._base"
        }

    @pytest.mark.parametrize("name", ["workflows", "json", "app", "pydantic"])
    def test_a_package_may_have_the_name_of_an_installed_one(self, folder: Path, name: str) -> None:
        write(folder / name / "__init__.py")
        write_echo(folder / name / "flow.py", "flow = Echo()")
        assert load(name) == {"flow": f"{name}/flow.py"}


class TestModuleNames:
    def test_a_file_has_the_same_module_name_wherever_it_lies(self, folder: Path) -> None:
        write_echo(folder / "deep/er/flows.py", "echo = Echo()")
        loaded = load_sources([str(folder / "deep/er/flows.py")])
        assert type(loaded.workflows[0].workflow).__module__ == "workflow_files.flows"

    def test_a_neighbour_has_the_same_module_name_imported_or_served(self, folder: Path) -> None:
        write(folder / "flows.py", "from steps import Echo", "echo = Echo()")
        write_echo(folder / "steps.py")
        loaded = load_sources(["flows.py"])
        assert type(loaded.workflows[0].workflow).__module__ == "workflow_files.steps"

    def test_a_neighbour_that_is_on_the_path_too_is_the_same_module(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        write(folder / "a.py", "from home import echo")
        write_echo(folder / "home.py", "echo = Echo()")
        assert load(".") == {"echo": "home.py"}

    def test_files_of_one_name_have_the_name_of_their_folder_from_the_second_on(
        self, folder: Path
    ) -> None:
        write_echo(folder / "billing/flows.py", "billing = Echo()")
        write_echo(folder / "shipping/flows.py", "shipping = Echo()")
        write_echo(folder / "old/shipping/flows.py", "old = Echo()")
        loaded = load_sources(["billing/flows.py", "shipping", "old/shipping"])
        assert [type(item.workflow).__module__ for item in loaded.workflows] == [
            "workflow_files.flows",
            "workflow_files.shipping_flows",
            "workflow_files.old_shipping_flows",
        ]

    def test_classes_and_annotations_are_found_by_the_module_name(self, folder: Path) -> None:
        write_echo(folder / "flows.py", "asked = Asked(words='hi')", "echo = Echo()")
        load("flows.py")
        module = sys.modules["workflow_files.flows"]
        assert pickle.loads(pickle.dumps(module.asked)).words == "hi"
        assert get_type_hints(module.Asked)["words"] is str

    @pytest.mark.parametrize("name", ["app", "schemas", "stores", "calendar", "my-flow", "v1.2"])
    def test_a_file_may_have_any_name(self, folder: Path, name: str) -> None:
        write_echo(folder / f"{name}.py", "import calendar; calendar.month_name", "echo = Echo()")
        assert load(f"{name}.py") == {"echo": f"{name}.py"}

    def test_files_that_import_each_other_are_run_once(self, folder: Path) -> None:
        write_echo(folder / "a.py", "import b", "echo = Echo()")
        write(folder / "b.py", "import a", "import workflow_files.a", "assert a.Echo")
        assert load("a.py", "a.py") == {"echo": "a.py"}
        assert sys.modules["a"] is sys.modules["workflow_files.a"]


class TestNamesOfOurs:
    @pytest.mark.parametrize(
        ("neighbour", "statement"),
        [
            ("stores/__init__.py", "from stores import CHOSEN"),
            ("stores/shop.py", "from stores.shop import CHOSEN"),
            ("schemas.py", "from schemas import CHOSEN"),
            ("app/server.py", "from app.server import CHOSEN"),
            ("app/stores/base.py", "from app.stores.base import CHOSEN"),
            ("app.py", "from app import CHOSEN"),
        ],
    )
    def test_a_neighbour_may_have_a_name_that_ours_had(
        self, folder: Path, neighbour: str, statement: str
    ) -> None:
        write_echo(folder / neighbour, "CHOSEN = Echo")
        write(folder / "flows.py", statement, "echo = CHOSEN()")
        assert load("flows.py") == {"echo": "flows.py"}

    def test_a_neighbour_may_be_imported_within_a_function(self, folder: Path) -> None:
        write(folder / "schemas.py", "CHOSEN = 1")
        write(folder / "lib/__init__.py", "from . import orders")
        write(folder / "lib/orders.py", "def get():", "    import schemas", "    return schemas")
        write_echo(folder / "flows.py", "from lib import orders", "echo = Echo()")
        load("flows.py")
        assert sys.modules["workflow_files.lib.orders"].get().CHOSEN == 1

    def test_a_file_finds_ours_by_the_former_name(self, folder: Path) -> None:
        write_echo(folder / "flows.py", *MAKES_SERVER)
        assert isinstance(load_sources(["flows.py"]).server, WorkflowServer)
        assert sys.modules["app.server"].WorkflowServer is WorkflowServer

    def test_a_file_app_finds_ours_by_the_former_name(self, folder: Path) -> None:
        write_echo(folder / "app.py", *MAKES_SERVER)
        write_echo(folder / "flows.py", "import app, app.errors", "flow = app.Echo()")
        loaded = load_sources(["app.py", "flows.py"])
        assert isinstance(loaded.server, WorkflowServer)
        assert [workflow.name for workflow in loaded.workflows] == ["flow"]

    def test_a_folder_without_python_files_hides_nothing(self, folder: Path) -> None:
        write(folder / "stores/data.json")
        write_echo(folder / "flows.py", "import stores.base", "echo = Echo()")
        assert load("flows.py") == {"echo": "flows.py"}

    def test_a_package_that_is_not_imported_harms_nobody(self, folder: Path) -> None:
        write(folder / "stores/__init__.py", "raise AssertionError('not imported')")
        write_echo(folder / "flows.py", "import app.errors", "echo = Echo()")
        assert load("flows.py") == {"echo": "flows.py"}


class TestEnclosingFolders:
    def test_a_file_is_one_module_by_the_name_of_its_folder_too(self, folder: Path) -> None:
        write_echo(folder / "shop/flows/base.py")
        write(folder / "shop/flows/a.py", "from shop.flows.base import Echo", "a = Echo()")
        write(folder / "shop/flows/b.py", "from base import Echo", "b = Echo()")
        write(folder / "shop/flows/c.py", "from shop.flows.a import a")
        loaded = load_sources(["shop/flows"])
        assert [workflow.name for workflow in loaded.workflows] == ["a", "b"]
        assert {type(item.workflow).__module__ for item in loaded.workflows} == {
            "workflow_files.base"
        }

    def test_a_package_is_one_module_by_the_name_of_its_folder_too(self, folder: Path) -> None:
        write_echo(folder / "shop/flows/__init__.py")
        write(folder / "shop/flows/a.py", "from shop.flows import Echo", "a = Echo()")
        loaded = load_sources([str(folder / "shop/flows/a.py")])
        assert type(loaded.workflows[0].workflow).__module__ == "workflow_files.flows"

    def test_what_is_installed_goes_before_the_folder(self, folder: Path) -> None:
        write_echo(folder / "json/flow.py", "from json import dumps", "flow = Echo()")
        assert load("json/flow.py") == {"flow": "json/flow.py"}


class TestShadowing:
    def test_an_import_of_a_neighbour_that_another_folder_hides_is_refused(
        self, folder: Path
    ) -> None:
        write(folder / "billing/steps.py")
        write_echo(folder / "billing/flows.py", "import steps", "billing = Echo()")
        write(folder / "shipping/steps.py")
        write_echo(folder / "shipping/flows.py", "import steps", "shipping = Echo()")
        line = len(ECHO.splitlines()) + 2
        assert refuse("billing/flows.py", "shipping/flows.py") == (
            f"shipping/flows.py, line {line}, imports steps, but {folder}/billing/steps.py goes by "
            "that name already and hides shipping/steps.py: rename one of the two, or serve them "
            "apart."
        )


class TestModules:
    def test_a_dotted_name_is_looked_up_in_the_working_directory(self, folder: Path) -> None:
        write(folder / "shop/__init__.py")
        write_echo(folder / "shop/flows.py", "echo = Echo()")
        assert load("shop.flows") == {"echo": "shop.flows"}

    def test_a_name_after_the_colon_chooses_one_workflow(self, folder: Path) -> None:
        write_echo(folder / "shop/flows.py", "echo = Echo()", "_inner = Echo()")
        assert load("shop.flows:_inner") == {"_inner": "shop.flows"}

    def test_a_name_after_the_colon_may_be_a_dict(self, folder: Path) -> None:
        write_echo(folder / "flows.py", "echo = Echo()", "chosen = {'this': Echo()}")
        assert load("flows:chosen") == {"this": "flows"}

    @pytest.mark.parametrize(
        ("source", "sentence"),
        [
            ("shop:none", "There is no none in shop: give a name that the module has."),
            (
                "shop:Echo",
                (
                    "shop:Echo is the workflow class Echo: give a variable that holds an instance "
                    "of it, such as `echo = Echo()`."
                ),
            ),
            (
                "shop:number",
                (
                    "shop:number is of type int: give a variable that holds a Workflow, a dict of "
                    "them, or a WorkflowServer."
                ),
            ),
            (
                "nowhere.flows",
                (
                    "There is no file, folder or module nowhere.flows: "
                    "give a .py file, a folder of them, or package.module[:name]."
                ),
            ),
        ],
    )
    def test_a_wrong_name_is_refused(self, folder: Path, source: str, sentence: str) -> None:
        write_echo(folder / "shop.py", "number = 1")
        assert refuse(source) == sentence

    def test_a_name_that_an_installed_module_has_is_refused(self, folder: Path) -> None:
        write_echo(folder / "calendar.py", "echo = Echo()")
        sentence = refuse("calendar:echo")
        assert sentence.startswith("calendar:echo means ")
        assert sentence.endswith(", which is found first: give the file instead: calendar.py.")


class TestFailures:
    @pytest.mark.parametrize(
        ("lines", "sentence"),
        [
            (
                ["", "print(nothing)"],
                (
                    "flows.py, line 2, fails to import (NameError: name 'nothing' is not defined): "
                    "mend the file and start again."
                ),
            ),
            (
                ["", "", "def flow(:"],
                (
                    "flows.py, line 3, fails to import (SyntaxError: invalid syntax): "
                    "mend the file and start again."
                ),
            ),
            (
                ["import nowhere.at_all"],
                (
                    "flows.py, line 1, fails to import (ModuleNotFoundError: No module named "
                    "'nowhere'): install or mend nowhere, so that it can be imported."
                ),
            ),
            (
                ["import sys", "sys.exit(3)"],
                (
                    "flows.py, line 2, fails to import (SystemExit: 3): put what ends the process "
                    'under `if __name__ == "__main__":`.'
                ),
            ),
            (
                ["import steps"],
                (
                    "steps.py, line 2, fails to import (ValueError: two lines): "
                    "mend the file and start again."
                ),
            ),
        ],
    )
    def test_a_failing_import_is_told_with_file_and_line(
        self, folder: Path, lines: list[str], sentence: str
    ) -> None:
        write(folder / "steps.py", "", "raise ValueError('two\\nlines')")
        write(folder / "flows.py", *lines)
        assert refuse("flows.py") == sentence

    def test_the_failure_itself_is_kept_for_the_traceback(self, folder: Path) -> None:
        write(folder / "flows.py", "1 / 0")
        with pytest.raises(LoadError) as refusal:
            load_sources(["flows.py"])
        assert isinstance(refusal.value.__cause__, ZeroDivisionError)

    @pytest.mark.parametrize(
        ("source", "sentence"),
        [
            (
                "none.py",
                (
                    "There is no file or folder none.py: "
                    "give a .py file, a folder of them, or package.module[:name]."
                ),
            ),
            ("flows.txt", "flows.txt is no Python file: give a file whose name ends in .py."),
        ],
    )
    def test_a_source_that_is_no_python_file_is_refused(
        self, folder: Path, source: str, sentence: str
    ) -> None:
        write(folder / "flows.txt")
        assert refuse(source) == sentence

    def test_two_workflows_of_one_name_are_refused(self, folder: Path) -> None:
        write_echo(folder / "a.py", "echo = Echo()")
        write_echo(folder / "b.py", "echo = Echo()")
        assert refuse("a.py", "b.py") == (
            "Both a.py and b.py hold a workflow called echo: rename one of them."
        )
