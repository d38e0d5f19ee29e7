"""The repository keeps itself in order. The bounds here may only get stricter."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
ENTRY_POINTS = {"mailfleet", "mailfleet.__main__", "mailfleet.cli.reference"}  # run by a person or by make
NOT_OURS = (
    "requirements/",
    "LICENSE",
    "examples/newsletter/recipients.csv",
    "tests/vectors/",
    "mailfleet/config/data/",
)
PLAIN_WORDS = re.compile(r"\b(robust|comprehensive|enterprise)", re.IGNORECASE)
LATER = re.compile(r"\b(TODO|FIXME)\b")  # what is not done is not there
TIDY = {"tests/tidy/test_tidy.py"}  # says the words that it looks for
# Named by nothing but their tests. This list only gets shorter.
UNUSED = {"PREFIX", "SILENT_MOVES", "domain_to_unicode"}


@cache
def tracked() -> tuple[str, ...]:
    """Every file in git that is still there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(name for name in listed.split("\0") if name and (ROOT / name).is_file())


def texts(*suffixes: str) -> list[tuple[str, str]]:
    """``(name, text)`` of the files with these suffixes."""
    return [(name, (ROOT / name).read_text("utf-8")) for name in tracked() if name.endswith(suffixes)]


def modules() -> list[tuple[str, str]]:
    """``(name, text)`` of the product's own modules, migrations aside: those are written once and never tidied."""
    return [
        (name, text)
        for name, text in texts(".py")
        if name.startswith("mailfleet/") and "/migrations/versions/" not in name
    ]


def module_of(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_modules_are_short() -> None:
    long = {name: text.count("\n") for name, text in modules() if text.count("\n") > MAX_MODULE_LINES}
    assert not long, f"split them: a module has at most {MAX_MODULE_LINES} lines"


def test_functions_fit_a_screen() -> None:
    long = {
        f"{name}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, text in texts(".py")
        if "/migrations/versions/" not in name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    }
    assert not long, f"cut them: a function has at most {MAX_FUNCTION_LINES} lines"


def test_every_module_says_what_belongs_in_it() -> None:
    mute = [name for name, text in texts(".py") if not ast.get_docstring(ast.parse(text)) and text.strip()]
    assert not mute


def test_every_module_is_used() -> None:
    """A module that nothing imports is dead, whatever its tests say."""
    imported = set(ENTRY_POINTS)
    for name, text in modules():
        package = module_of(name) if name.endswith("__init__.py") else module_of(name).rpartition(".")[0]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = f"{package}.{node.module or ''}".rstrip(".") if node.level else node.module or ""
                imported |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    for name in list(imported):  # a package is used when something in it is
        imported |= {name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)}
    alembics = {"mailfleet.store.migrations.env"}
    dead = {module_of(name) for name, _ in modules()} - imported - alembics
    assert not dead


def test_every_name_is_used() -> None:
    """A function, class or constant that only its own definition names is dead. Decorated ones are found by their decorator."""
    words = Counter(word for _, text in modules() for word in re.findall(r"\w+", text))
    defined = set()
    for _, text in modules():
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.decorator_list:
                defined.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                defined |= {target.id for target in targets if isinstance(target, ast.Name)}
    dead = {name for name in defined if words[name] == 1 and not name.startswith("__")}
    assert dead - UNUSED == set(), "remove them"
    assert UNUSED - dead == set(), "in use or gone: take them off the list"


def test_printing_is_the_command_lines_business() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, text in modules()
        if not name.startswith("mailfleet/cli/")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not found


@pytest.mark.parametrize("words", [PLAIN_WORDS, LATER], ids=["plain words", "nothing for later"])
def test_words_that_are_not_used(words: re.Pattern[str]) -> None:
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in texts(".py", ".md", ".toml", ".html", ".js", ".css", "Makefile", ".sh", "run", ".mako")
        if name not in TIDY and not name.startswith(NOT_OURS)
        for number, line in enumerate(text.splitlines(), start=1)
        if words.search(line)
    ]
    assert not found


def test_every_type_ignore_has_a_reason() -> None:
    bare = [
        f"{name}:{number}"
        for name, text in modules()
        for number, line in enumerate(text.splitlines(), start=1)
        if re.search(r"# type: ignore(\[[\w, -]*\])?\s*$", line)
    ]
    assert not bare


# Documents


def headings(text: str) -> set[str]:
    """The anchors of a page, as they are made from its headings."""
    found = re.findall(r"^#+ +(.+?)\s*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_every_link_of_every_page_leads_somewhere() -> None:
    dead = []
    for name, text in texts(".md"):
        prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            aim = (ROOT / name).parent / path if path else ROOT / name
            if not aim.exists() or (anchor and aim.suffix == ".md" and anchor not in headings(aim.read_text("utf-8"))):
                dead.append(f"{name}: {target}")
    assert not dead


def test_every_page_can_be_reached_from_the_readme() -> None:
    pages = dict(texts(".md"))
    reached, look = {"README.md"}, ["README.md"]
    while look:
        name = look.pop()
        for target in re.findall(r"\]\(([^)#\s:]+)", pages[name]):
            found = ((ROOT / name).parent / target).resolve()
            page = str(found.relative_to(ROOT)) if found.is_relative_to(ROOT) else ""
            if page in pages and page not in reached:
                reached.add(page)
                look.append(page)
    assert set(pages) - reached <= {"CONTRIBUTING.md"}


def test_modules_that_pages_name_are_there() -> None:
    """``engine/lane.py`` and ``mailfleet/engine/lane.py`` in a page are promises too."""
    gone = [
        f"{name}: {path}"
        for name, text in texts(".md")
        for path in re.findall(r"`((?:mailfleet/|tests/|docs/|scripts/|bench/)[\w./-]+\.\w+)`", text)
        if not (ROOT / path).exists()
    ]
    assert not gone


# Dependencies


def project() -> dict[str, list[str]]:
    """The packages of ``pyproject.toml``, at run time and for development."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {"runtime": found["dependencies"], "dev": found["optional-dependencies"]["dev"]}


def normal(package: str) -> str:
    """A package's name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", package)[0]).lower()


def test_every_dependency_has_its_reason_and_licence() -> None:
    page = (ROOT / "docs/decisions/dependencies.md").read_text("utf-8")
    told: dict[str, tuple[str, str]] = {}
    for names, why, licence in re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page, re.M):
        told |= {normal(one): (why.strip(), licence.strip()) for one in names.split(", ")}
    wanted = {normal(one) for group in project().values() for one in group}
    assert wanted - told.keys() == set(), "say why they are there"
    assert all(why and licence for why, licence in told.values())


def test_every_dependency_is_used() -> None:
    """What is in ``pyproject.toml`` for run time is imported by the product (or is named here with who takes it)."""
    taken_by_others = {"httptools", "markupsafe"}  # by uvicorn; by jinja2, and by the page where it is imported
    spelt = {"css-inline": "css_inline", "dnspython": "dns", "pydantic-settings": "pydantic_settings"}
    spelt |= {"python-multipart": "python_multipart", "prometheus-client": "prometheus_client", "pillow": "PIL"}
    source = "\n".join(text for _, text in modules())
    unused = {
        package
        for package in map(normal, project()["runtime"])
        if not re.search(rf"^\s*(from|import) {spelt.get(package, package)}\b", source, re.M)
    }
    assert unused <= taken_by_others


def test_what_is_imported_is_declared() -> None:
    """A package that another one happens to bring may go with it."""
    spelt = {"css_inline": "css-inline", "dns": "dnspython", "pydantic_settings": "pydantic-settings"}
    spelt |= {"python_multipart": "python-multipart", "prometheus_client": "prometheus-client", "PIL": "pillow"}
    imported = set()
    for _, text in modules():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").split(".")[0])
    foreign = {spelt.get(name, name) for name in imported - set(sys.stdlib_module_names) - {"mailfleet"}}
    assert foreign - set(map(normal, project()["runtime"])) == set()


LOCK_LINE = re.compile(
    r"[A-Za-z0-9._-]+==[\w.+!-]+( ; [\w.'\" <>=]+)? \\"
    r"|    --hash=sha256:[0-9a-f]{64}( \\)?"
    r"|    #( via)?( +(-[cr] )?[\w.-]+(/runtime\.txt)?( \(pyproject\.toml\))?)?"
    r"|# The following packages are considered to be unsafe in a requirements file:"
)


def test_locks_name_no_place() -> None:
    """Where packages come from is the machine's own setting."""
    locks = [(name, text) for name, text in texts(".txt") if name.startswith("requirements/")]
    assert {name for name, _ in locks} >= {"requirements/runtime.txt", "requirements/dev.txt", "requirements/build.txt"}
    for name, text in locks:
        strange = [line for line in text.splitlines() if line and not LOCK_LINE.fullmatch(line)]
        assert not strange, f"{name}: a pin, a hash, or which package wants it"


def test_every_dependency_is_locked() -> None:
    for group, lock in (("runtime", "runtime.txt"), ("dev", "dev.txt")):
        text = (ROOT / "requirements" / lock).read_text("utf-8")
        pinned = {normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.M)}
        assert {normal(one) for one in project()[group]} - pinned == set(), lock


def test_nothing_names_a_folder_of_one_machine() -> None:
    own = re.compile(r"(?<![\w.])/(?:work|home|root|Users)/[\w.-]+")
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in texts(".py", ".md", ".toml", ".txt", ".html", "Makefile", "run")
        if name not in TIDY and not name.startswith("examples/")
        for number, line in enumerate(text.splitlines(), start=1)
        if own.search(line)
    ]
    assert not found
