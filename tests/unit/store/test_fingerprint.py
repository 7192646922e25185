"""The hash of the code that a root reaches: what must change it, and what must not."""

import os
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from textwrap import dedent

import pytest

from unlearn_runner.store import fingerprint
from unlearn_runner.store.fingerprint import code_hash, modules, reached

Write = Callable[[str, str], None]
_clock = count(1)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module below a folder that is on the path; each write has a time of its own."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def put(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        moment = next(_clock) * 10**9
        os.utime(path, ns=(moment, moment))

    yield put
    assert not [name for name in set(sys.modules) - before if name.startswith("plug")]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


LOSS = """
    import torch.nn.functional as F
    from typing import Any

    SCALE = 2.0
    OTHER = 3.0

    def helper(x):
        return x * SCALE

    def unused(x):
        return x + OTHER

    def loss(x: int, y: str = "a") -> float:
        '''Say what it does.'''
        z: int = helper(x)
        return F.relu(z)
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'''Say what it does.'''", "'''Say it better.'''"),
        ("'''Say what it does.'''", ""),
        ("return x * SCALE", "return (x  *\n            SCALE)  # a comment"),
        ("x: int, y: str", "x: Any, y"),
        ("-> float", ""),
        ("z: int =", "z ="),
        ("SCALE = 2.0", "SCALE: float = 2.0"),
        ("return x + OTHER", "return x - OTHER"),
        ("OTHER = 3.0", "OTHER = 4.0"),
        ("from typing import Any", "from typing import Any, cast"),
    ],
)
def test_edits_that_compute_the_same(write: Write, old: str, new: str) -> None:
    write("plug/m.py", LOSS)
    before = code_hash(["plug.m:loss"])
    assert old in LOSS
    write("plug/m.py", LOSS.replace(old, new))
    assert code_hash(["plug.m:loss"]) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return x * SCALE", "return x / SCALE"),
        ("SCALE = 2.0", "SCALE = 2.5"),
        ("SCALE = 2.0", "SCALE = 2.0\n    SCALE += 1"),
        ('y: str = "a"', 'y: str = "b"'),
        ("return F.relu(z)", "return F.gelu(z)"),
        ("import torch.nn.functional as F", "import other.functional as F"),
        ("import torch.nn.functional as F", "import torch.nn.functional as F\n    F.mode = 1"),
    ],
)
def test_edits_that_compute_something_else(write: Write, old: str, new: str) -> None:
    write("plug/m.py", LOSS)
    before = code_hash(["plug.m:loss"])
    assert old in LOSS
    write("plug/m.py", LOSS.replace(old, new))
    assert code_hash(["plug.m:loss"]) != before


@pytest.mark.parametrize(
    "user",
    [
        "from plug.lib import f\ndef go(): return f()",
        "from plug.lib import f as g\ndef go(): return g()",
        "import plug.lib as c\ndef go(): return c.f()",
        "import plug.lib\ndef go(): return plug.lib.f()",
        "from plug import lib\ndef go(): return lib.f()",
        "from plug import lib as m\ndef go(): return [x for x in (m.f(),)]",
        "def go():\n    from plug.lib import f\n    return f()",
        "def go():\n    import plug.lib as c\n    return c.f()",
        "def go():\n    import plug.lib\n    return plug.lib.f()",
        "from . import lib\ndef go(): return lib.f()",
        "from .lib import f\ndef go(): return f()",
        "from .deep.inner import f\ndef go(): return f()",
        "from .deep import inner\ndef go(): return inner.f()",
        "from plug import f\ndef go(): return f()",
        "from . import renamed\ndef go(): return renamed()",
        "import plug\ndef go(): return plug.f()",
        "from .deep import f\ndef go(): return f()",
        "from .lib import *\ndef go(): return f()",
        "from plug.starred import f\ndef go(): return f()",
        "from . import lib\ndef go(): return getattr(lib, 'f')()",
        "from . import lib\nTABLE = {'f': lib.f}\ndef go(): return TABLE['f']()",
        "from .lib import f\nTABLE = {}\nTABLE['f'] = f\ndef go(): return TABLE['f']()",
        "from .lib import f\nLIST = []\nLIST.append(f)\ndef go(): return LIST[0]()",
        "try:\n    from .lib import f\nexcept ImportError:\n    f = None\ndef go(): return f()",
        "if 1:\n    from .lib import f\nelse:\n    f = None\ndef go(): return f()",
        "from .lib import f\n@f\ndef go(): return 1",
        "from .lib import f\ndef go(x=f()): return x",
        "from .lib import f\ndef go(*, x=f): return x",
        "from .lib import f\ndef go(): return (lambda x, y=f: y(x))(1)",
        "from .lib import f\ndef go(): return [f() for f in f()]",
        "from .lib import f\nclass go:\n    def run(self): return f()",
        "from .lib import f\nclass go:\n    field: int = f()",
        "from .lib import Base\nclass go(Base): pass",
        "from . import lib\nclass go(lib.Base): pass",
        "from .lib import Base\ndef go(): return Base.make().run",
        "from .lib import f\ndef go():\n    def inner(f): return f\n    return inner(f())",
        "from .lib import f\nasync def go():\n    async for x in f(): yield x",
        "from .lib import f\nprint(f())\ndef go(): return 1",
    ],
)
def test_every_way_to_reach_a_definition(write: Write, user: str) -> None:
    lib = """
        VALUE = 1
        def f(*args): return VALUE
        class Base:
            def run(self): return f()
        def unused(): return 1
    """
    write("plug/__init__.py", "from .lib import f\nfrom plug.lib import f as renamed")
    write("plug/lib.py", lib)
    write("plug/starred.py", "from .lib import *")
    write("plug/deep/__init__.py", "from ..lib import f")
    write("plug/deep/inner.py", "from .. import lib\ndef f(): return lib.f()")
    write("plug/user.py", user)
    before, units = code_hash(["plug.user:go"]), reached(["plug.user:go"])
    write("plug/lib.py", lib.replace("VALUE = 1", "VALUE = 2"))
    assert code_hash(["plug.user:go"]) != before
    after = reached(["plug.user:go"])
    assert {key for key in units if units[key] != after[key]} == {"plug.lib:VALUE"}
    if "*" not in user and "getattr" not in user and "starred" not in user:
        assert "plug.lib:unused" not in units


@pytest.mark.parametrize(
    "user",
    [
        "from .lib import f\ndef go(x: f) -> f: return x",
        "from .lib import f\nclass go:\n    field: f = 1",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .lib import f\n"
        "def go(x: 'f'): return x",
        "from . import lib\ndef go(lib): return lib.f(lib)",
        "from . import lib\ndef go():\n    lib = []\n    return lib.append(lambda: lib)",
        "from .lib import f\ndef go(x): return [f for f in x]",
        "from .lib import f\ndef go(): return 1\nif __name__ == '__main__':\n    f()",
        "from .lib import f\ndef go(): return 1\nTABLE = {}\nTABLE['go'] = go\nTABLE['f'] = f",
        "from .lib import f, Table\ndef go(): return 1\nTable.add(go)\ndef g(): f()\nTable.add(g)",
    ],
)
def test_a_name_that_is_not_a_use(write: Write, user: str) -> None:
    lib = "class Table: pass\ndef f(): return 1\n"
    write("plug/__init__.py", "")
    write("plug/lib.py", lib)
    write("plug/user.py", user)
    before = code_hash(["plug.user:go"])
    write("plug/lib.py", lib.replace("1", "2"))
    assert code_hash(["plug.user:go"]) == before


def test_a_registered_loss_does_not_lead_to_the_others(write: Write) -> None:
    registry = (
        "LOSSES = {}\ndef register(n):\n    def put(f):\n        LOSSES[n] = f\n    return put\n"
    )
    losses = """
        from plug.registry import register
        @register("npo")
        def npo(x): return x + 1
        @register("ga")
        def ga(x): return -x
    """
    write("plug/registry.py", registry)
    write("plug/losses.py", losses)
    before = {name: code_hash([f"plug.losses:{name}"]) for name in ("npo", "ga")}
    write("plug/losses.py", losses.replace("x + 1", "x + 2"))
    assert code_hash(["plug.losses:npo"]) != before["npo"]
    assert code_hash(["plug.losses:ga"]) == before["ga"]
    assert set(reached(["plug.losses:ga"])) == {
        "plug.losses:ga",
        "plug.registry:register",
        "plug.registry:LOSSES",
    }


def test_swapping_what_two_names_stand_for_changes_the_hash(write: Write) -> None:
    write("plug/lib.py", "def f(): return 1\ndef g(): return 2")
    write("plug/__init__.py", "from .lib import f as a, g as b")
    write("plug/user.py", "from plug import a, b\ndef go(): return a() / b()")
    before = code_hash(["plug.user:go"])
    write("plug/__init__.py", "from .lib import g as a, f as b")
    assert code_hash(["plug.user:go"]) != before


def test_what_importing_a_module_sets_counts(write: Write) -> None:
    write("plug/__init__.py", "import torch\ntorch.use_deterministic_algorithms(True)")
    write("plug/m.py", "def f(): return 1")
    before = code_hash(["plug.m:f"])
    write("plug/__init__.py", "import torch\ntorch.use_deterministic_algorithms(False)")
    assert code_hash(["plug.m:f"]) != before
    assert set(reached(["plug.m:f"])) == {"plug.m:f", f"plug:{fingerprint.EFFECTS}"}


def test_class_fields_count(write: Write) -> None:
    write("plug/m.py", "class C:\n    x: int = 1")
    before = code_hash(["plug.m:C"])
    write("plug/m.py", "class C:\n    x: float = 1")
    assert code_hash(["plug.m:C"]) != before


@pytest.fixture
def own(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for this package: one module that computes, one inert."""
    monkeypatch.setattr(modules, "_HOME", tmp_path / "unlearn_runner")
    write("unlearn_runner/__init__.py", "")
    write("unlearn_runner/store.py", "def save(): return 1")
    write(
        "unlearn_runner/losses.py",
        """
        import plug.m
        from unlearn_runner import store
        from .store import save
        def npo():
            from unlearn_runner.store import save as inner
            store.save(), save(), inner()
        def ga(): return plug.m.f()
        """,
    )


@pytest.mark.usefixtures("own")
def test_inert_modules(write: Write) -> None:
    write("plug/m.py", "from unlearn_runner.losses import npo\ndef f(): return npo()")
    for root in ("unlearn_runner.losses:npo", "plug.m:f"):
        before = code_hash([root])
        write("unlearn_runner/store.py", "def save(): return 2")
        assert code_hash([root]) == before
        assert not [key for key in reached([root]) if "store" in key]
    with pytest.raises(ValueError, match=r"store:save"):
        code_hash(["unlearn_runner.store:save"])


@pytest.mark.usefixtures("own")
def test_a_plugin_leads_into_this_package_but_not_into_another(write: Write) -> None:
    write("plugother.py", "def g(): return 1")
    write(
        "plug/m.py",
        "import plugother\nfrom unlearn_runner.losses import npo\n"
        "def f():\n    plugother.g()\n    return npo()",
    )
    assert set(reached(["plug.m:f"])) == {"plug.m:f", "unlearn_runner.losses:npo"}
    assert set(reached(["unlearn_runner.losses:ga"])) == {"unlearn_runner.losses:ga"}
    assert set(reached(["plugother:g"])) == {"plugother:g"}


def test_cycles_end(write: Write) -> None:
    write("plug/__init__.py", "from . import a, b\nfrom .a import *\nfrom .b import *")
    write("plug/a.py", "from plug import *\nfrom plug import b\ndef f(): return b.g(missing)")
    write("plug/b.py", "from plug.a import f\nfrom plug import gone\ndef g(): return f(gone), g")
    assert set(reached(["plug.a:f"])) >= {"plug.a:f", "plug.b:g"}
    assert code_hash(["plug:f", "plug.b:g"]) == code_hash(["plug.b:g", "plug:f"])


@pytest.mark.parametrize("root", ["plug.m:gone", "plug.gone:f", "plugnone.m:f", "plug.m", "m:f:g"])
def test_a_missing_root_is_named(write: Write, root: str) -> None:
    write("plug/__init__.py", "")
    write("plug/m.py", "def f(): return 1")
    with pytest.raises(KeyError, match=root):
        code_hash([root])


def test_roots_through_reexport_and_from_outside(write: Write) -> None:
    write("plug/__init__.py", "from .m import *\nfrom torch import relu as act")
    write("plug/m.py", "def f(): return 1")
    assert "plug.m:f" in reached(["plug:f"])
    before = code_hash(["plug:act"])
    write("plug/__init__.py", "from .m import *\nfrom torch import gelu as act")
    assert code_hash(["plug:act"]) != before


def new_process() -> None:
    """Forget what this process has read, as another one would not have."""
    fingerprint._closures.clear()
    modules._loaded.clear()


class TestRemembered:
    """What another process finds in the cache folder."""

    def test_unchanged_files_are_not_parsed_again(
        self, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write("plug/__init__.py", "")
        write("plug/m.py", LOSS)
        first = code_hash(["plug.m:loss"])
        new_process()
        monkeypatch.setattr(modules.ast, "parse", lambda *_: pytest.fail("parsed"))
        assert code_hash(["plug.m:loss"]) == first

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("plug/m.py", LOSS.replace("SCALE = 2.0", "SCALE = 3.0")),
            ("plug/other.py", "def helper(x): return x"),  # was not there
            ("plug/m/__init__.py", LOSS.replace("SCALE = 2.0", "SCALE = 3.0")),  # comes before m.py
        ],
    )
    def test_an_edit_is_seen(self, write: Write, name: str, text: str) -> None:
        write("plug/__init__.py", "")
        write(
            "plug/m.py",
            LOSS.replace("def helper(x)", "from plug.other import helper\n\n    def _(x)"),
        )
        first = code_hash(["plug.m:loss"])
        write(name, text)
        new_process()
        assert code_hash(["plug.m:loss"]) != first

    @pytest.mark.parametrize(
        "content", ["", "{", "[]", '{"modules": 3}', '{"code": 3, "modules": {}}']
    )
    def test_a_damaged_file_is_no_answer(
        self, write: Write, cache_folder: Path, content: str
    ) -> None:
        write("plug/__init__.py", LOSS)
        first = code_hash(["plug:loss"])
        (kept,) = cache_folder.rglob("*.json")
        kept.write_text(content)
        new_process()
        assert code_hash(["plug:loss"]) == first

    def test_a_home_that_cannot_be_written_costs_nothing_but_time(
        self, write: Write, cache_folder: Path
    ) -> None:
        write("plug/__init__.py", LOSS)
        cache_folder.write_text("a file where the folder should be")
        assert code_hash(["plug:loss"]) == code_hash(["plug:loss"])
