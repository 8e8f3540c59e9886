"""The documents are true: their examples run, their commands parse, their paths exist.

How a fenced block is marked decides what is done with it:

    ```python test           runs in a folder that holds `clip.wav` (2 s) and a trained encoder in
                             `runs/quickstart/train`, beside weights called `whisper-base` (random, one layer, of its
                             width); a comment behind `print(...)` is what that line prints
    ```bash                  every `uniwhisper` line is parsed by the command line itself; so are indented lines
    ```csv train.csv         a table to train on: read, and every clip can be asked about
    ```csv eval.csv          a table to judge on: read, and split
    ```json manifest.jsonl   a clip, read as a manifest's row
    ```json encoder/...      has the fields of the configuration beside an encoder
    ```text tree             paths of the repository, indented by folder, each with at most eight words
    ```text layers           all modules of the package, in the order of the import contract

Commands in backticks need not be complete, but their verbs, arguments of recipes and sources, and options must exist.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
import soundfile

from tiny import tiny_whisper, tone
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.checkpoint import save_audio_model
from uniwhisper.cli import VERBS, app
from uniwhisper.evaluate.bootstrap import interval, replicate
from uniwhisper.evaluate.results import load_predictions, read_results
from uniwhisper.evaluate.splits import make_plan
from uniwhisper.evaluate.tables import read_table as read_task
from uniwhisper.instructions import families
from uniwhisper.manifest import clip_from_json
from uniwhisper.model.encoder import load_encoder
from uniwhisper.model.uniwhisper import AudioModel
from uniwhisper.recipes import list_recipes
from uniwhisper.sources import list_sources
from uniwhisper.sources.table import read_table as read_clips
from uniwhisper.weights import cache

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "uniwhisper"
DOCUMENTS = tuple(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "dev/DECISIONS.md"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in DOCUMENTS}
README = TEXTS["README.md"]

FENCE = re.compile(r"^```(?P<info>[^`\n]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
MAX_README_LINES = 200
MAX_WORDS = 8
EXAMPLES = {"mine.py"}
"""Files that are the reader's own."""
CLIP_S = 2.0
WIDTH = 512


def blocks(info: str) -> list[tuple[str, str]]:
    """Return (document, body) of every fenced block that is marked so."""
    return [
        (name, match["body"]) for name, text in TEXTS.items() for match in FENCE.finditer(text) if match["info"] == info
    ]


def block(info: str) -> str:
    """Return the body of the only block that is marked so."""
    (found,) = blocks(info)
    return found[1]


def inline(text: str) -> list[str]:
    """Return what stands between backticks outside of fenced blocks, in single spaces."""
    return [" ".join(span.split()) for span in INLINE.findall(FENCE.sub("", text))]


def whole_commands() -> Iterator[tuple[str, str]]:
    """Yield (document, command) of every `uniwhisper` line in a bash block or an indented one."""
    for name, text in TEXTS.items():
        bash = "\n".join(body for document, body in blocks("bash") if document == name)
        indented = "\n".join(re.findall(r"^    (.+)$", FENCE.sub("", text), re.MULTILINE))
        for line in f"{bash}\n{indented}".replace("\\\n", " ").splitlines():
            if line.startswith("uniwhisper "):
                yield name, line


def parts_of_commands() -> list[tuple[str, str]]:
    return [(name, span) for name, text in TEXTS.items() for span in inline(text) if span.startswith("uniwhisper ")]


def verb_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that the words call, and its arguments."""
    assert words[0] in VERBS, f"no such verb: {words[0]}"
    command = app.get_command(click.Context(app), words[0])
    assert command is not None
    rest = words[1:]
    if isinstance(command, click.Group) and rest:
        assert rest[0] in command.commands, f"{words[0]} has no {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def check_name(words: list[str]) -> None:
    """Fail where a recipe or source is named that does not exist; capitals and <name> stand for any."""
    if len(words) > 1 and re.fullmatch(r"[a-z][a-z0-9_]*", words[1]):
        known = {"train": list_recipes(), "convert": list_sources()}.get(words[0])
        assert known is None or words[1] in known, f"{words[0]}: there is no {words[1]}, only {known}"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `home`, whose weights are called whisper-base, and `runs`, which holds a trained encoder."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNIWHISPER_HOME", str(folder / "home"))
        with cache.build("whisper-base") as weights:
            tiny_whisper(weights, width=WIDTH, heads=8, layers=1)
            cache.seal(weights, {"way": "test"})
        found = cache.cached("whisper-base")
    assert found is not None
    facts = {"version": "", "config": {}, "steps": 0, "clips_drawn": {}, "mixture": {}}
    save_audio_model(folder / "runs/quickstart/train/encoder", AudioModel(load_encoder(found)), facts)
    return folder


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with `clip.wav` and the folders that the README's commands read."""
    monkeypatch.chdir(tmp_path)
    write_tone(tmp_path / "clip.wav", CLIP_S, 440)
    for folder in ("data/wavcaps", "data/ESC-50", "clips/wavcaps", "clips/esc50", "clean", "shards"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def write_tone(path: Path, duration_s: float, hz: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(duration_s, hz), SAMPLE_RATE, subtype="PCM_16")


def write_table(folder: Path, name: str) -> Path:
    """Write the documents' table `name` and the audio that it lists."""
    table = folder / name
    table.write_text(block(f"csv {name}"), encoding="utf-8")
    with table.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            write_tone(folder / row["path"], CLIP_S, 200 + 50 * number)
    return table


@pytest.mark.parametrize(("document", "code"), blocks("python test"))
def test_python_examples_run(
    document: str,
    code: str,
    desk: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("UNIWHISPER_HOME", str(models / "home"))
    (desk / "runs").symlink_to(models / "runs", target_is_directory=True)
    promised = [line.rpartition("  # ")[2] for line in code.splitlines() if line.startswith("print(")]
    assert promised, f"{document}: an example shows what it prints"
    exec(compile(code, f"{document} (example)", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out.splitlines() == promised


def test_every_python_block_is_run() -> None:
    infos = [match["info"] for text in TEXTS.values() for match in FENCE.finditer(text)]
    assert blocks("python test")
    assert not [info for info in infos if info.startswith("python") and info != "python test"]


@pytest.mark.parametrize(("document", "command"), list(whole_commands()))
def test_whole_commands_are_accepted(document: str, command: str, desk: Path) -> None:
    words = shlex.split(command, comments=True)[1:]
    parser, rest = verb_of(words)
    try:
        parser.make_context(words[0], rest)
    except click.ClickException as e:
        pytest.fail(f"{document}: {command}: {e.format_message()}")
    check_name(words)


@pytest.mark.parametrize(("document", "command"), parts_of_commands())
def test_options_of_mentioned_commands_exist(document: str, command: str) -> None:
    words = shlex.split(command)[1:]
    if words[0].startswith("--"):
        parser, rest = app, words
    else:
        parser, rest = verb_of(words)
        check_name(words)
    known = {option for parameter in parser.params for option in parameter.opts} | {"--help"}
    assert {word.partition("=")[0] for word in rest if word.startswith("-")} <= known, document


def test_options_mentioned_alone_exist() -> None:
    known: set[str] = set()
    for verb in VERBS:
        command, _ = verb_of([verb])
        known |= {option for parameter in command.params for option in parameter.opts}
    mentioned = {re.split("[ =]", span)[0] for text in TEXTS.values() for span in inline(text) if span.startswith("--")}
    assert mentioned
    assert mentioned <= known


def test_every_verb_is_in_the_readme() -> None:
    mentioned = {command.split()[1] for name, command in parts_of_commands() if name == "README.md"}
    assert mentioned >= set(VERBS)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    lines = [line.strip() for text in TEXTS.values() for line in text.splitlines() if line.startswith("    make ")]
    spans = [span for text in TEXTS.values() for span in inline(text) if span.startswith("make ")]
    called = {line.split()[1] for line in lines + spans}
    assert {"quickstart", "test"} <= called <= targets


def test_training_table_can_be_trained_on(desk: Path) -> None:
    clips = read_clips(write_table(desk, "train.csv"))
    supported = {clip.id: set(families(clip)) for clip in clips}
    wanted = {
        "talk/a1.wav": "asr",
        "yard/dog.wav": "captioning",
        "yard/mix.wav": "event_detection",
        "music/c4.wav": "attribute_prediction",
    }
    assert all(wanted[id] in supported[id] for id in wanted)
    assert supported.keys() == wanted.keys()


def test_evaluation_table_can_be_judged_on(desk: Path) -> None:
    task = read_task(write_table(desk, "eval.csv"))
    assert task.classes == ("lark", "owl")
    assert task.group_kind == "group"
    assert make_plan(task).scheme == "train/test"


def test_manifest_row_is_a_clip() -> None:
    clip = clip_from_json(json.loads(block("json manifest.jsonl")), "ARCHITECTURE.md")
    assert clip.annotation.events[0].offset_s == 1.2


def test_encoder_configuration_has_these_fields(models: Path) -> None:
    promised = json.loads(block("json encoder/config.json"))
    written = json.loads((models / "runs/quickstart/train/encoder/config.json").read_text(encoding="utf-8"))
    assert promised.keys() == written.keys()
    same = ("format", "hop_ms", "num_mel_bins", "max_source_positions", "d_model", "encoder_ffn_dim")
    assert {name: promised[name] for name in same} == {name: written[name] for name in same}
    run = (PACKAGE / "train" / "run.py").read_text(encoding="utf-8")
    assert all(f'"{name}":' in run for name in promised["provenance"])


def tree() -> dict[Path, str]:
    """Return every path of the tree with its annotation."""
    found: dict[Path, str] = {}
    parent = ROOT
    for line in block("text tree").splitlines():
        name, _, words = line.strip().partition("  ")
        if not line.startswith(" "):
            parent = ROOT / name
            found[parent] = words.strip()
        else:
            found[parent / name] = words.strip()
    return found


def test_tree_is_there_and_short() -> None:
    entries = tree()
    assert not [path for path in entries if not path.exists()]
    assert not [path.name for path, words in entries.items() if not 1 <= len(words.split()) <= MAX_WORDS]


def test_tree_shows_every_module() -> None:
    assert {path.name for path in tree() if path.parent == PACKAGE} == modules()


def modules() -> set[str]:
    """Return the modules and folders of the package, without those with underscores."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return folders | {path.name for path in PACKAGE.glob("[!_]*.py")}


def test_layers_are_those_of_the_contract() -> None:
    layers = [line.split(" | ") for line in block("text layers").splitlines()]
    shown = [name for layer in layers for name in layer]
    assert sorted(shown) == sorted({Path(name).stem for name in modules()} | {"__main__"})
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    order = [name.strip() for layer in contract[0]["layers"] for name in layer.split("|")]
    assert [name for name in shown if name in order] == order


@pytest.mark.parametrize("name", TEXTS)
def test_named_files_exist(name: str) -> None:
    text = FENCE.sub("", TEXTS[name])
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https:")]
    spans = [
        span for span in inline(text) if re.fullmatch(r"[\w./-]+\.py|(src|tests|scripts|benchmarks)/[\w./-]*", span)
    ]
    folder = next(path for path in DOCUMENTS if path.name == name).parent
    missing = [link for link in links if link and not (folder / link).exists()]
    missing += [span for span in spans if span not in EXAMPLES and not exists(span)]
    assert not missing, f"{name} names what is not there"


def exists(span: str) -> bool:
    """Return whether a path starts at the repository or the package, or a bare name is that of any file of them."""
    bare = "/" not in span and any(True for folder in (PACKAGE, ROOT / "tests") for _ in folder.rglob(span))
    return bare or (ROOT / span).exists() or (PACKAGE / span).exists()


def script(name: str) -> ModuleType:
    """Return a module of `scripts/`."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_corpora_is_the_generated_one() -> None:
    corpora = script("corpora")
    shown = README.partition(corpora.BEGIN)[2].partition(corpora.END)[0].strip()
    assert shown == corpora.table(), "run `python scripts/corpora.py --write`"
    rows = [line.split("|") for line in shown.splitlines()[2:] if line.startswith("|")]
    assert sum("train" in row[2] for row in rows) == 23
    assert sum("eval" in row[2] for row in rows) == 19, "LibriSpeech serves two tasks of the paper's twenty"


def test_the_table_of_scores_is_the_generated_one() -> None:
    judged = script("judged")
    shown = README.partition(judged.BEGIN)[2].partition(judged.END)[0].strip()
    assert shown == judged.table(), "run `python scripts/judged.py --write`"


def test_the_intervals_of_the_table_of_scores_follow_from_stored_predictions() -> None:
    for folder in sorted(script("judged").STORED.iterdir()):
        results = read_results(folder)
        for name, stored in load_predictions(results, [task.name for task in results.tasks]).items():
            task = results.task(name)
            replicates = replicate(stored, metric=task.metric)
            scores = stored.probe_scores(task.metric)
            assert tuple(scores) == pytest.approx(task.probe.per_seed, abs=1e-12)
            again = interval(sum(scores) / len(scores), replicates.probe)
            assert (again.low, again.high) == pytest.approx((task.probe.low, task.probe.high), abs=1e-12)


def test_anchors_exist() -> None:
    heads = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= heads


def test_readme_is_short_and_its_results_can_be_filled_in() -> None:
    generated = r"<!-- (corpora|judged):begin -->.*?<!-- \1:end -->"
    by_hand = re.sub(generated, "", README, flags=re.DOTALL)
    assert len(by_hand.splitlines()) <= MAX_README_LINES
    markers = [line for line in README.splitlines() if "<!-- results:" in line]
    assert markers == ["<!-- results:begin -->", "<!-- results:end -->"]
