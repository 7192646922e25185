"""Mistakes that people make with the commands, their data and their models, and what is answered.

A table of commands; `@name` in one stands for a damaged folder or file of that name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# --- a folder of TOFU's files in miniature, and ways to damage it


def qa(number: int, **more: Any) -> dict[str, Any]:
    return {"question": f"Question {number}?", "answer": f"Answer {number}.", **more}


def judged(number: int) -> dict[str, Any]:
    return qa(number, paraphrased_answer=f"It is {number}.", perturbed_answer=[f"No, {number}."])


def lines(*rows: Mapping[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


SOUND = {
    "full": lines(qa(0), qa(1), qa(2)),
    "forget10": lines(qa(0)),
    "retain90": lines(qa(1), qa(2)),
    "forget10_perturbed": lines(judged(0)),
    "retain_perturbed": lines(judged(1)),
    "real_authors": lines(qa(3)),
    "world_facts": lines(qa(4)),
    "real_authors_perturbed": lines(judged(3)),
    "world_facts_perturbed": lines(judged(4)),
}
DAMAGED: dict[str, dict[str, bytes | None]] = {
    "sound": {},
    "no_file": {"retain90": None},
    "no_answer": {"full": lines(qa(0), {"question": "And?"})},
    "empty_answer": {"full": lines(qa(0), qa(1) | {"answer": "  "})},
    "blank_line": {"full": b"\n" + lines(qa(0), {"question": "And?"})},
    "not_json": {"full": lines(qa(0)) + b'{"question": \n'},
    "not_utf8": {"full": lines(qa(0)) + b'{"question": "\xe9t\xe9"}\n'},
    "nothing": {"full": b""},
    "no_perturbed": {"retain_perturbed": lines(qa(1))},
    "empty_perturbed": {"retain_perturbed": lines(qa(1, perturbed_answer=["a", ""]))},
    "other_version": {"retain90": lines(qa(1), qa(5))},
    "empty_array": {"full": b"[]\n"},
    "array": {"full": b'[{"question": "Q?", "answer": "A."},\n {"question": "Q2?"}]'},
    "broken_array": {"full": b'[{"question": "Q?",\n "answer": }]'},
    "number": {"full": lines(qa(0), qa(1) | {"answer": 7})},
    "list": {"full": lines(qa(0), qa(1) | {"answer": ["Answer 1."]})},
    "null": {"full": lines(qa(0) | {"answer": None})},
    "no_object": {"full": lines(qa(0)) + b'["Question?", "Answer."]\n'},
    "nested": {"full": lines(qa(0)) + b"[" * 100_000 + b"\n"},
    "not_a_number": {"full": lines(qa(0)) + b'{"question": "Q?", "answer": NaN}\n'},
    "infinite": {"full": b'{"question": "Q?", "answer": "A.", "weight": Infinity}\n'},
    "long_number": {"full": b'{"question": "Q?", "answer": %s}\n' % (b"1" * 5000)},
    "twice_a_key": {"full": b'{"question": "Q?", "answer": "A.", "answer": "B."}\n'},
    "surrogate": {"full": b'{"question": "Q\\ud800?", "answer": "A."}\n'},
    "latin1_after_mark": {"full": b"\xef\xbb\xbf" + lines(qa(0)) + b'{"question": "\xe9"}\n'},
    "utf16": {"full": '{"question": "Q?", "answer": "A."}\n'.encode("utf-16")},
    "lfs": {"full": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"},
    "repeated": {"full": lines(qa(0), qa(1), qa(1), qa(2))},
    "twice_wrong": {"retain_perturbed": lines(judged(1) | {"perturbed_answer": ["a", "b", "a "]})},
    "wrong_is_right": {"retain_perturbed": lines(judged(1) | {"perturbed_answer": ["Answer 1."]})},
    "wrong_is_paraphrase": {
        "forget10_perturbed": lines(judged(0) | {"perturbed_answer": ["No.", "It is 0."]})
    },
    "a_text_perturbed": {"retain_perturbed": lines(judged(1) | {"perturbed_answer": "No."})},
    "no_paraphrase": {
        "retain_perturbed": lines(judged(1), qa(2, perturbed_answer=["No."])),
    },
    "some_perturbed": {
        "retain_perturbed": lines(qa(2, paraphrased_answer="It is 2."), judged(1)),
    },
    "empty_paraphrase": {"retain_perturbed": lines(judged(1) | {"paraphrased_answer": " "})},
    "marked": {"full": b"\xef\xbb\xbf" + lines(qa(0), qa(1), qa(2)).replace(b"\n", b"\r\n")},
}
SIZES = ",".join(f"{name}:{content.count(b'}')}" for name, content in SOUND.items())


def tofu(damage: str, sizes: str = f"{{{SIZES}}}") -> str:
    """A command that reads the damaged folder, expecting as many rows as the sound files have."""
    return f"benchmark=tofu benchmark.data_dir=@{damage} benchmark.source.sizes={sizes}"


# --- the table


@dataclass(frozen=True)
class Mistake:
    """A command, `unlearn` where it names none, and what the answer must contain."""

    command: str
    says: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    """Files that are there before the command, below its working folder."""


def mistake(command: str, *says: str, **more: Any) -> Mistake:
    return Mistake(command, says, **more)


MISTAKES = {
    # names
    "group mistyped": mistake("methd=ga", "methd", "method=ga"),
    "option mistyped": mistake(
        "method=npoo", "method=npoo", "idk, ihl, influence, kl", "method=npo"
    ),
    "option in capitals": mistake("method=NPO", "method=NPO", "fix: method=npo"),
    "option of a rectifier mistyped": mistake("rectifier=gruu", "options: ", "fix: rectifier=gru"),
    "debug mistyped": mistake("debug=tinny", "debug=tinny", "fix: debug=tiny"),
    "option null": mistake("method=null", "method", "idk, ihl, influence, kl"),
    "option a number": mistake("method=5", "method=5", "idk, ihl, influence, kl"),
    "option a list": mistake("method=[ga,npo]", "method", "-m method=ga,npo"),
    "key mistyped": mistake("train.lrr=1", "train.lrr", "known here", "fix: train.lr=1"),
    "group of a key mistyped": mistake("rectifer.gamma=1", "rectifer.gamma", "rectifier.gamma=1"),
    "bare key": mistake("gamma=0.5", "gamma", "fix: rectifier.gamma=0.5"),
    "deep key mistyped": mistake("method.retain.los=kl", "method.retain.los", "method.retain.loss"),
    "key of another option": mistake("method.beta=0.1", "method.beta", "of GA", "reduction"),
    "key of the other rectifier": mistake("rectifier=none rectifier.gamma=1", "rectifier.gamma"),
    # methods
    "rectifier of a one-shot method": mistake(
        "method=task_vector rectifier=gru", "rectifier", "TaskVector", "fix: rectifier=none"
    ),
    "adapter of a one-shot method": mistake(
        "method=tru adapter=lora", "adapter", "TRU", "fix: adapter=none"
    ),
    "a mean of refusals and nothing": mistake(
        "method=idk method.concat=true method.retain.loss=kl",
        *("method.concat=true", "method.retain.loss=nll"),
    ),
    "no loss to bound": mistake("method=pdu method.retain.loss=none", "method.retain", "loss=nll"),
    "no closed form": mistake("method=tnpo method.closed=true method.eps=1e-5", "method.eps=0"),
    "no regular expression": mistake("method=rmu 'method.parameters=\"(\"'", "method.parameters"),
    "more parts than rows": mistake("method=tru method.splits=99", "method.splits=99", "2 to 40"),
    "no file of refusals": mistake(
        "method=idk benchmark.refusals_file=none.txt",
        *("benchmark.refusals_file", "none.txt", "fix: benchmark.refusals_file=null"),
    ),
    # prefixes
    "added key": mistake("+foo=1", "foo is not a setting", "output_dir"),
    "added key in a group": mistake("+train.foo=1", "train.foo is not a setting", "batch_size"),
    "forced key": mistake("++train.lrr=1", "train.lrr is not a setting", "fix: train.lr="),
    "added group": mistake("+method=npo", "+method", "fix: method=npo"),
    "forced group": mistake("++method=npo", "method", "fix: method=npo"),
    "removed group": mistake("~method", "method"),
    "removed group with defaults": mistake("~train", "train"),
    "removed group mistyped": mistake("~methd", "~methd", "known here: ", "method"),
    # types and ranges
    "text for a number": mistake("train.lr=fast", "train.lr=fast", "a number > 0"),
    "text for an integer": mistake("train.batch_size=x", "train.batch_size=x", "a whole number"),
    "fraction for an integer": mistake("train.batch_size=1.5", "train.batch_size=1.5", ">= 1"),
    "truth value for an integer": mistake("train.batch_size=true", "train.batch_size", ">= 1"),
    "truth value for a number": mistake("train.lr=true", "train.lr", "a number > 0"),
    "nothing for a number": mistake("train.lr=", "train.lr=", "a number > 0"),
    "null for a number": mistake("train.lr=null", "train.lr", "a number > 0"),
    "number for a truth value": mistake("overwrite=7", "overwrite=7", "true or false"),
    "value for a group": mistake("target.train=5", "target.train", "Recipe"),
    "gamma 0": mistake("rectifier.gamma=0", "rectifier.gamma=0", "> 0 and <= 1"),
    "gamma 2": mistake("rectifier.gamma=2", "rectifier.gamma=2", "> 0 and <= 1"),
    "tau 0": mistake("rectifier.tau=0", "rectifier.tau=0", "> 0", "null"),
    "negative rate": mistake("train.lr=-1", "train.lr=-1", "a number > 0"),
    "rate not a number": mistake("train.lr=nan", "train.lr=nan", "a number > 0"),
    "batch of none": mistake("train.batch_size=0", "train.batch_size=0", ">= 1"),
    "negative seed": mistake("seed=-1", "seed=-1", "a whole number >= 0"),
    "nested range": mistake("method=npo method.beta=0", "method.beta=0", "a number > 0"),
    "one beta": mistake("train.betas=[0.9]", "train.betas", "0.9"),
    "odd head size": mistake("model.shape.num_heads=3", "model.shape.num_heads=3"),
    "choice mistyped": mistake("rectifier.clip=aftr", "after or before", "rectifier.clip=after"),
    "nested choice mistyped": mistake(
        "method.retain.loss=nnl", "method.retain.loss=nnl", "none or nll or kl", "loss=nll"
    ),
    "device mistyped": mistake("parallel.device=gpu", "parallel.device=gpu", "auto or cpu or cuda"),
    # no bounds, no end
    "a seed of 5,000 digits": mistake(f"seed={'7' * 5000}", "seed=777", "5005 characters"),
    "a seed beyond bounds": mistake("seed=99999999999", "seed=99999999999", "<= 4294967295"),
    "a target's seed beyond": mistake("target.seed=1e30", "target.seed=1e+30", "a whole number"),
    "a batch beyond": mistake(f"train.batch_size=9{'9' * 22}", "train.batch_size=9", "<= 1000000"),
    "epochs without end": mistake("train.epochs=1e29 evaluate.every=1", "train.epochs=1e+29"),
    "scores without end": mistake(
        "train.steps=900000 evaluate.every=1", "evaluate.every=1", "evaluate.every=90"
    ),
    "layers without end": mistake(
        "model.shape.num_layers=99999999", "model.shape.num_layers=99999999", "<= 1024"
    ),
    "weights without end": mistake(
        "model.shape.num_layers=1000 model.shape.hidden_size=65536", "model.shape", "1e+11"
    ),
    "a vocabulary without end": mistake("model.vocab_size=999999999999", "model.vocab_size=9999"),
    "an empty range of seeds": mistake("-m seed=range(0)", "no values", "fix: unlearn -m seed=1"),
    "a range without steps": mistake("-m 'seed=range(1,5,0)'", "seed", "no values"),
    "ten million jobs": mistake("-m 'seed=range(10000000)'", "10000000 jobs", "at most 10000"),
    "a million jobs in two axes": mistake(
        "-m 'seed=range(1000)' 'target.seed=range(1000)'", "1000000 jobs"
    ),
    "a grid of nothing there": mistake("-m sweep.grid.nope=1,2", "sweep.grid.nope=1", "a list"),
    "a grid over nothing": mistake("-m 'sweep.grid.nope=[1,2]'", "nope is not a setting"),
    "a name of 300 letters": mistake(f"name={'a' * 300}", "name=", "at most 200 bytes"),
    "an empty name": mistake("name=", "name=''", "fix: name=my-run"),
    "a name that is a group": mistake("'name=${method}'", "name must be one value", "text or null"),
    "a home of nobody": mistake("store=~nouser/x", "store=~nouser/x", "no user nouser"),
    "a removed setting": mistake("~train.lr", "~train.lr removes a setting", "train.lr=VALUE"),
    "settings made empty": mistake("benchmark.view={}", "benchmark.view={} changes nothing"),
    "several experiments": mistake(
        "+experiment=gru/tofu_phi,tofu_scratch",
        *("names several options", "unlearn -m experiment=gru/tofu_phi,tofu_scratch"),
    ),
    "several experiments that are not there": mistake("+experiment=a,b", "experiment=a", "options"),
    "no folder after a flag": mistake(
        "--config-dir=", "--config-dir needs", "allowed: --config-dir"
    ),
    "further jobs that are none": mistake(
        "-m seed=1,2 sweep.also=npo", "sweep.also=npo", "[{method: npo, adapter: lora}]"
    ),
    "a further job of nothing": mistake(
        "-m seed=1,2 'sweep.also=[{}]'", "sweep.also", "no settings", "{method: npo"
    ),
    "a sweeper by its key": mistake("-m seed=1,2 hydra.sweeper=foo", "hydra.sweeper=foo"),
    "logging of hydra's": mistake("hydra/job_logging=default", "hydra/job_logging=default"),
    "hydra's folder": mistake("hydra.run.dir=out2", "hydra.run.dir", "fix: output_dir=out2"),
    "hydra's launcher": mistake(
        "-m seed=1,2 hydra/launcher=submitit_slurm", "hydra/launcher", "fix: cluster=slurm"
    ),
    "another configuration's name": mistake("--config-name=x", "--config-name=x is not a flag"),
    "a model of the hub": mistake("model=owner/name", "fix: model=hf model.path=owner/name"),
    "a folder of a model": mistake("model=@model", "model.path=", "model=chat"),
    # values that are not there
    "missing value": mistake("train.lr=???", "train.lr"),
    "interpolation to nowhere": mistake("seed=${nope.x}", "seed", "nope.x"),
    "environment variable": mistake("seed=${oc.env:NO_SUCH}", "seed", "NO_SUCH"),
    # the form of the command
    "no equals sign": mistake("npo", "npo", "KEY=VALUE"),
    "group without a value": mistake(
        "method", "method is not an override", "method options: altpo"
    ),
    "no key": mistake("=5", "=5"),
    "bracket left open": mistake("train.betas=[0.9", "[0.9"),
    "unknown flag": mistake("--metod=npo", "--metod=npo"),
    "no folder of options": mistake(
        "--config-dir=nope method=mine", "nope is not a folder of conf"
    ),
    "unknown short flag": mistake("-x", "-x"),
    "several options": mistake("method=ga,npo", "method=ga,npo", "-m method=ga,npo"),
    "several values": mistake("seed=1,2", "seed=1,2", "-m seed=1,2"),
    "sweep over an unknown option": mistake("-m method=npo,gaa", "method=gaa", "fix: method=ga"),
    "name outside": mistake("name=../x", "name='../x'", "allowed: letters", "fix: name=x"),
    "hidden name": mistake("name=.x", "name='.x'", "fix: name=x"),
    "one of two ranks": mistake(
        "parallel=single",
        "one of 2 ranks",
        "fix: parallel=ddp  # or parallel=fsdp2",
        env={"RANK": "0", "WORLD_SIZE": "2"},
    ),
    "name taken": mistake(
        "name=mine",
        "name=mine",
        "another configuration",
        "overwrite=true",
        written={"out/runs/mine/config.yaml": "seed: 7\n"},
    ),
    # classes
    "class of a stranger": mistake(
        "method._target_=os.system", "method._target_=os.system", "unlearn_runner", "trusted=[os]"
    ),
    "class of another kind": mistake(
        "method._target_=unlearn_runner.rectifiers.gru.GRU", "method._target_", "Method"
    ),
    "class that is not there": mistake(
        "method._target_=unlearn_runner.methods.ga.GAA", "method._target_", "methods.ga.GAA"
    ),
    "module that is not there": mistake(
        "method._target_=unlearn_runner.gaa.GA", "method._target_", "unlearn_runner.gaa"
    ),
    "class without a module": mistake("method._target_=GA", "method._target_", "package.module"),
    "trusted not a list": mistake("trusted=os", "trusted=os", "trusted=[my_package]"),
    # data
    "forget split": mistake(
        "benchmark.forget=forget11", "benchmark.forget=forget11", "forget05, forget10"
    ),
    "split that is not there": mistake("benchmark.full=ful", "ful", "forget10"),
    "folder for a generator": mistake("benchmark.data_dir=.", "benchmark.data_dir", "tofu"),
    "no data folder": mistake(
        "benchmark=tofu benchmark.data_dir=nope", "benchmark.data_dir=nope", "full.json"
    ),
    "no data file": mistake(tofu("no_file"), "retain90.json", "forget10"),
    "row without an answer": mistake(tofu("no_answer"), "full.json:2", "'answer'"),
    "row with an empty answer": mistake(tofu("empty_answer"), "full.json:2", "empty", "'answer'"),
    "line counted with blank ones": mistake(tofu("blank_line"), "full.json:3", "'answer'"),
    "row not JSON": mistake(tofu("not_json"), "full.json:2", "JSON"),
    "row not UTF-8": mistake(tofu("not_utf8"), "full.json:2", "UTF-8"),
    "empty file": mistake(tofu("nothing"), "full.json", "empty"),
    "wrong number of rows": mistake(
        tofu("sound", "{retain90:7}"), "full.json has 3 rows", "4000", "benchmark.source.sizes"
    ),
    "no perturbed answers": mistake(
        tofu("no_perturbed"), "retain_perturbed", "1", "'perturbed_answer'"
    ),
    "an empty perturbed answer": mistake(
        tofu("empty_perturbed"), "retain_perturbed.json:1", "'perturbed_answer'"
    ),
    "splits of two versions": mistake(tofu("other_version"), "retain90", "forget10", "full"),
    "empty array": mistake(tofu("empty_array"), "full.json", "empty"),
    "row of an array": mistake(tofu("array"), "full.json row 2", "'answer'"),
    "array not JSON": mistake(tofu("broken_array"), "full.json:2", "JSON"),
    "a number for an answer": mistake(tofu("number"), "full.json:2", "non-text", "'answer'"),
    "a list for an answer": mistake(tofu("list"), "full.json:2", "non-text", "'answer'"),
    "null for an answer": mistake(tofu("null"), "full.json:1", "non-text", "'answer'"),
    "row not an object": mistake(tofu("no_object"), "full.json:2", "not a JSON object"),
    "row nested without end": mistake(tofu("nested"), "full.json:2", "nested"),
    "NaN": mistake(tofu("not_a_number"), "full.json:2", "NaN"),
    "Infinity": mistake(tofu("infinite"), "full.json:1", "Infinity"),
    "a number too long to read": mistake(tofu("long_number"), "full.json:1", "JSON"),
    "a key twice": mistake(tofu("twice_a_key"), "full.json:1", "'answer'", "twice"),
    "half of a surrogate pair": mistake(tofu("surrogate"), "full.json:1", "surrogate"),
    "line counted behind a mark": mistake(tofu("latin1_after_mark"), "full.json:2", "UTF-8"),
    "UTF-16": mistake(tofu("utf16"), "full.json:1", "UTF-8", "iconv -f utf-16 "),
    "a pointer of Git LFS": mistake(tofu("lfs"), "full.json:1", "JSON"),
    "a row twice": mistake(tofu("repeated"), "full.json:3", "repeats", "full.json:2"),
    "a wrong answer twice": mistake(
        tofu("twice_wrong"), "retain_perturbed.json:1", "number 3", "same as number 1"
    ),
    "a wrong answer that is right": mistake(
        tofu("wrong_is_right"), "retain_perturbed.json:1", "number 1", "the 'answer'"
    ),
    "a wrong answer that is the paraphrase": mistake(
        tofu("wrong_is_paraphrase"),
        "forget10_perturbed.json:1",
        "number 2",
        "the 'paraphrased_answer'",
    ),
    "a text for a list": mistake(tofu("a_text_perturbed"), "retain_perturbed.json:1", "a list"),
    "a paraphrase missing": mistake(
        tofu("no_paraphrase"), "retain_perturbed.json:2 has no 'paraphrased_answer'"
    ),
    "perturbed answers missing": mistake(
        tofu("some_perturbed"), "retain_perturbed.json:1 has no 'perturbed_answer'"
    ),
    "an empty paraphrase": mistake(
        tofu("empty_paraphrase"), "retain_perturbed.json:1", "'paraphrased_answer'"
    ),
    "a file for a folder": mistake(
        "benchmark=tofu benchmark.data_dir=@sound/full.json", "benchmark.data_dir", "not a folder"
    ),
    "verify not a truth value": mistake("verify=7", "verify=7", "true or false"),
}


# --- models, logs and stores that are no such thing

EMPTY = "\x02" + "\0" * 7 + "{}"  # a safetensors file without tensors
_CONFIG = '{"model_type": "llama"}'
_TOKENIZER = '{"model": {"vocab": {}}}'
_WHOLE = {"config.json": _CONFIG, "model.safetensors": EMPTY, "tokenizer.json": _TOKENIZER}
MODELS: dict[str, dict[str, str]] = {
    "model": _WHOLE,
    "adapter": {"adapter_config.json": "{}", "adapter_model.safetensors": EMPTY},
    "no_config": {k: v for k, v in _WHOLE.items() if k != "config.json"},
    "no_weights": {k: v for k, v in _WHOLE.items() if k != "model.safetensors"},
    "no_tokenizer": {k: v for k, v in _WHOLE.items() if k != "tokenizer.json"},
    "config_no_json": {**_WHOLE, "config.json": "model_type: llama"},
    "config_no_type": {**_WHOLE, "config.json": "{}"},
    "config_a_list": {**_WHOLE, "config.json": "[1]"},
    "text": {**_WHOLE, "model.safetensors": "version https://git-lfs.github.com/spec/v1"},
    "cut": {**_WHOLE, "model.safetensors": EMPTY.replace("{}", "{    ")},
    "short": {
        **_WHOLE,
        "model.safetensors": "\x1e" + "\0" * 7 + '{"a": {"data_offsets": [0,4]}}abc',
    },
    "pickled": {"config.json": _CONFIG, "pytorch_model.bin": "", "tokenizer.json": "{}"},
    "no_shard": {
        **_WHOLE,
        "model.safetensors.index.json": '{"weight_map": {"a": "model-00002-of-00002.safetensors"}}',
    },
}
"""Files of model folders; a plan looks at these and no further."""

LOGS: dict[str, bytes] = {
    "empty.json": b"",
    "cut.json": b'{"forget_Q_A_Prob": {"value_by_index": {"0": {"prob": 0.1',
    "latin1.json": b'{"a": "\xe9"}',
    "list.json": b"[]",
    "other.json": b'{"accuracy": 0.5}',
    "nested.json": b"[" * 100_000,
    "not_a_number.json": b'{"eval_log.json": {"avg_gt_loss": {"0": NaN}}}',
    "pickle.json": b"\x80\x04\x95",
}
"""Files given as evaluation logs."""
_FORGET = {
    "avg_gt_loss": {"0": 0.5},
    "avg_paraphrased_loss": {"0": 0.5},
    "average_perturb_loss": {"0": [1.5]},
    "generated_text": {"0": ["Question 0?", "Nothing.", "Answer 0."]},
}
SOUND_LOG = json.dumps({"eval_log_forget.json": _FORGET}).encode()
"""Of the sound folder's forget rows."""

MISTAKES |= {
    "no model folder": mistake("target.path=nope", "target.path=", "nope", "it is not a folder"),
    "no hub": mistake(
        "target.path=nobody/nothing",
        "target.path: nobody/nothing",
        "scripts/fetch.py",
        env={"HF_HUB_OFFLINE": "1"},
    ),
    "model without config": mistake("target.path=@no_config", "target.path=", "no config.json"),
    "model without weights": mistake(
        "retain_model.path=@no_weights", "retain_model.path", ".safetens"
    ),
    "model without tokenizer": mistake("target.path=@no_tokenizer", "it has no tokenizer"),
    "model config not JSON": mistake("target.path=@config_no_json", "config.json", "JSON"),
    "model config without a type": mistake("target.path=@config_no_type", "no model_type"),
    "model config a list": mistake("target.path=@config_a_list", "no JSON object"),
    "pickled weights": mistake("target.path=@pickled", "no .safetensors weights"),
    "weights that are text": mistake("target.path=@text", "not a safetensors file"),
    "a header cut short": mistake("target.path=@cut", "not a safetensors file"),
    "weights cut short": mistake("retain_model.path=@short", "has 41 bytes instead of 42"),
    "a shard missing": mistake("target.path=@no_shard", "model-00002-of-00002.safetensors is miss"),
    "a file for a model": mistake("target.path=@model/config.json", "it is not a folder"),
    "a folder at a revision": mistake(
        "target.path=@model target.revision=main", "target.revision=main", "no revisions"
    ),
    "an experiment mistyped": mistake(
        "experiment=gru/tofu_ph", "experiment=gru/tofu_ph", "fix: experiment=gru/tofu_phi"
    ),
    "an experiment without its folder": mistake(
        "experiment=tofu_phi", "experiment=tofu_phi", "geffect/tofu_phi", "gru/tofu_phi"
    ),
    "a key under a nested experiment": mistake(
        "experiment=gru/tofu_phi rectifier.gama=1", "rectifier.gama", "fix: rectifier.gamma=1"
    ),
    "a model mistyped": mistake("model=llama3_1b", "model=llama3_1b", "fix: model=llama32_1b"),
    "no data set in the cache": mistake(
        "benchmark=tofu",
        "locuslab/TOFU (full)",
        "scripts/fetch.py --tofu",
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": "hub"},
    ),
    "model without a path": mistake("model=hf", "model.path must be set", "model.path=FOLDER"),
    "two references": mistake(
        "retain_model.path=@model retain_model.log=@empty.json",
        "retain_model.path and retain_model.log",
    ),
    "no log": mistake("retain_model.log=nope.json", "nope.json"),
    "log empty": mistake("retain_model.log=@empty.json", "empty.json"),
    "log of something else": mistake("retain_model.log=@other.json", "other.json"),
    "log a folder": mistake("retain_model.log=@model", "model"),
    # scores along the way, what is kept, trackers
    "every now and then": mistake(
        "evaluate.every=sometimes", "evaluate.every=sometimes", "evaluate.every=1epoch"
    ),
    "every zero steps": mistake("evaluate.every=0", "evaluate.every=0", ">= 1"),
    "every zero epochs": mistake("evaluate.every=0epochs", "evaluate.every=0epochs"),
    "keep mistyped": mistake("keep=everything", "keep=everything", "scores or model or check"),
    "checkpoints at no step": mistake("keep=checkpoints", "evaluate.every", "keep=model"),
    "dtype mistyped": mistake("save_dtype=fp16", "save_dtype=fp16", "float16"),
    "tracker mistyped": mistake("tracker=wandbb", "tracker=wandbb", "fix: tracker=wandb"),
    "tracker mode": mistake(
        "tracker=wandb tracker.mode=onlin", "tracker.mode=onlin", "tracker.mode=online"
    ),
    # adapters
    "adapter mistyped": mistake("adapter=lra", "adapter=lra", "lora, none", "fix: adapter=lora"),
    "target's adapter mistyped": mistake(
        "target.adapter=lra", "target.adapter=lra", "lora, none", "fix: target.adapter=lora"
    ),
    "FILA of a base": mistake(
        "target.adapter=fila", "FILA", "which the base does not", "fix: target.adapter=lora"
    ),
    "a target's adapter merged": mistake(
        "target.adapter=lora target.adapter.merge=true", "fix: target.adapter.merge=false"
    ),
    "a setting of no target's adapter": mistake(
        "target.adapter.rank=4", "fix: target.adapter=lora target.adapter.rank=4"
    ),
    "a target's adapter in float64": mistake(
        "target.adapter=lora target.adapter.base_dtype=bf16 target.train.precision=float64",
        "target.adapter.base_dtype=bf16 does not go with target.train.precision=float64",
        "fix: target.adapter.base_dtype=float32",
    ),
    "no such estimator": mistake(
        "adapter=fila adapter.estimator=per_row",
        "batch_token_weighted or per_sample or per_token",
    ),
    "a setting of FILA": mistake(
        "adapter=pissa adapter.estimator=per_token", "fix: adapter=fila adapter.estimator=per_token"
    ),
    "rank 0": mistake("adapter=lora adapter.rank=0", "adapter.rank=0", "a whole number >= 1"),
    "alpha 0": mistake("adapter=lora adapter.alpha=0", "adapter.alpha=0", "a number > 0"),
    "dropout 1": mistake("adapter=lora adapter.dropout=1", "adapter.dropout=1", "< 1"),
    "targets mistyped": mistake(
        "adapter=lora adapter.targets=all_liner",
        "adapter.targets=all_liner",
        "all_linear or attention or mlp",
        "fix: adapter.targets=all_linear",
    ),
    "no expression": mistake(
        "adapter=lora 'adapter.regex=\"[qv\"'", "adapter.regex=[qv", "unterminated", "[qv]_proj"
    ),
    "layers the wrong way round": mistake(
        "adapter=lora adapter.layers=[3,1]", "adapter.layers=[3,1]", "fix: adapter.layers=[1,3]"
    ),
    "one layer": mistake("adapter=lora adapter.layers=3", "adapter.layers=3", "a list of"),
    "base dtype mistyped": mistake(
        "adapter=lora adapter.base_dtype=bf15", "adapter.base_dtype=bf15", "float32 or bf16"
    ),
    "a setting of no adapter": mistake(
        "adapter.rank=4", "adapter.rank", "NoAdapter", "fix: adapter=lora adapter.rank=4"
    ),
    "a bf16 base in float64": mistake(
        "adapter=lora adapter.base_dtype=bf16 train.precision=float64",
        "adapter.base_dtype=bf16",
        "train.precision=float64",
    ),
    "an adapter in bf16": mistake(
        "adapter=lora save_dtype=bf16", "save_dtype=bf16", "adapter.merge=true save_dtype=bf16"
    ),
    "an adapter for a model": mistake(
        "target.path=@adapter", "not an adapter that can be loaded", "LORA"
    ),
    # selection
    "criterion mistyped": mistake(
        "sweep=gru_gamma_tau sweep.select.criterion=forgeting",
        *("sweep.select.criterion=forgeting", "fix: sweep.select.criterion=forgetting"),
    ),
    "nothing held out": mistake(
        "sweep=gru_gamma_tau sweep.select.share=1", "sweep.select.share=1", "> 0 and < 1"
    ),
    "selection by the retain model": mistake(
        "sweep=gru_gamma_tau sweep.select.criterion=forget_quality", "fix: sweep.select.peek=true"
    ),
    "selection by a score that is not there": mistake(
        "sweep=gru_gamma_tau sweep.select.criterion=forget_quality sweep.select.peek=true "
        "~benchmark.metric.forget_quality",
        *("needs the score forget_quality_ks", "sweep.select.criterion=null"),
    ),
    "one person to divide": mistake(
        "sweep=gru_gamma_tau sweep.select.by=person", "view forget", "fix: sweep.select.by=row"
    ),
    "selection across benchmarks": mistake(
        "-m benchmark.forget=forget05,forget10 sweep.select.criterion=harmonic", "different rows"
    ),
    "selection from one run": mistake("sweep.select.criterion=forgetting", "one run"),
    "an empty range": mistake(
        "sweep=search '++sweep.space={train.lr: {low: 1, high: 0.1}}'",
        "sweep.space: train.lr",
        "low=1",
    ),
    "a search with an axis": mistake("sweep=search method=ga,gd", "method", "choices"),
    "a search with further jobs": mistake(
        "sweep=search 'sweep.also=[{seed: 1}]'", "sweep.also", "sweep.space"
    ),
    "a search of nothing": mistake(
        "sweep=search rectifier.gamma=1 rectifier.tau=1", "sweep.space", "low: 1e-5"
    ),
    "a search for nothing": mistake(
        "sweep=search sweep.select.criterion=null", "fix: sweep.select.criterion=forgetting"
    ),
    # unlearn-eval
    "evaluate nothing": mistake("unlearn-eval", "no checkpoint"),
    "evaluate what is not there": mistake("unlearn-eval nope", "evaluate.path"),
    "evaluate with a method": mistake("unlearn-eval @model method=npo", "method=npo"),
    # unlearn-score
    "score nothing": mistake("unlearn-score", "LOG"),
    "score a missing log": mistake("unlearn-score nope.json", "nope.json"),
    "score an empty log": mistake("unlearn-score @empty.json", "empty.json"),
    "score a cut log": mistake("unlearn-score @cut.json", "cut.json"),
    "score no UTF-8": mistake("unlearn-score @latin1.json", "latin1.json", "UTF-8"),
    "score a list": mistake("unlearn-score @list.json", "list.json"),
    "score something else": mistake("unlearn-score @other.json", "other.json"),
    "score without end": mistake("unlearn-score @nested.json", "nested.json"),
    "score NaN": mistake("unlearn-score @not_a_number.json", "not_a_number.json"),
    "score a pickle": mistake("unlearn-score @pickle.json", "pickle.json"),
    "score a model": mistake("unlearn-score @model", "model"),
    "score's flag mistyped": mistake("unlearn-score x.json --jsn", "--jsn"),
    "score's mean mistyped": mistake("unlearn-score x.json --mean harmonic", "harmonic"),
    # unlearn-store
    "store what": mistake("unlearn-store", "ls|gc|verify"),
    "store command mistyped": mistake("unlearn-store lst", "lst", "ls"),
    "no store": mistake("unlearn-store ls nope", "there is no store at nope"),
    "store's outputs": mistake(
        "unlearn-store ls store", "fix: unlearn-store ls store/store", written={"store/store/x": ""}
    ),
    "age without a unit": mistake(
        "unlearn-store gc store --older 30", "--older 30", "--older 30d", written={"store/x": ""}
    ),
    "kind mistyped": mistake(
        "unlearn-store gc store --kind unlern",
        "--kind unlern",
        "fix: unlearn-store gc store --kind unlearn",
        written={"store/unlearn/x": ""},
    ),
    "unused by no run": mistake(
        "unlearn-store gc store --unused", "no run folder", "--outputs", written={"store/x": ""}
    ),
    "outputs that are not there": mistake(
        "unlearn-store ls store --outputs nope", "--outputs nope", written={"store/x": ""}
    ),
}

# Only loading the weights shows these. What had been made before them stays as it was.
LATE = {
    "weights of another architecture": mistake("target.path=@architecture", "lacks weights of its"),
    "weights of other sizes": mistake("target.path=@sizes", "size", "@sizes"),
    "a tokenizer that is none": mistake("target.path=@model", "the tokenizer in", "cannot be load"),
    "a tokenizer without an end": mistake("target.path=@endless", "end-of-sequence"),
    "a model of another kind": mistake("target.path=@encoder", "@encoder"),
    "an adapter with no place": mistake(
        "adapter=lora adapter.regex=c_attn target.path=@sound_model retain_model.path=@sound_model",
        "adapter.regex=c_attn matches no linear module",
        "model.layers.N.self_attn.q_proj",
    ),
    "a layer the model does not have": mistake(
        "method=rmu method.layer=9 target.path=@sound_model retain_model.path=@sound_model",
        *("method.layer=9", "0 to 1, the model's blocks"),
    ),
    "a model of the hub that is not there": mistake(
        "model=phi debug=null",
        "model.path: microsoft/phi-1_5",
        "offline",
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": "hub"},
    ),
}
