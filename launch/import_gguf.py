"""A GGUF file -> a plain Hugging Face model directory that `model.path=...` takes.

    python launch/import_gguf.py model.gguf models/smollm2 --dtype bfloat16

The weights are dequantised: training needs them dense. What quantisation rounded away does not come back.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # no file of launch/ may pass for an installed package

# torch and transformers are imported where they are used: a mistyped path is answered at once.

MAGIC = b"GGUF"
PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


def main(arguments: list[str] | None = None) -> None:
    """Convert, reload, ask one question, and only then let the directory appear under its name."""
    options = parse(arguments)
    source, target = Path(options.gguf).expanduser(), Path(options.directory).expanduser()
    try:
        check_source(source)
        check_target(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            made = Path(scratch) / "model"
            convert(source, made, options.dtype, options.tokenizer)
            verify(made, options.question)
            made.rename(target)
    except ValueError as error:
        sys.exit(f"import_gguf: {error}")
    print(f"wrote {target}; train it with model.path={target}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", help="the GGUF file")
    parser.add_argument("directory", help="the directory to write; must not exist, or be empty")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights on disk")
    parser.add_argument("--tokenizer", help="directory of the original tokenizer, instead of the one in the GGUF")
    parser.add_argument("--question", default="What is 2+2?", help="asked once, greedily, to see that the model works")
    return parser.parse_args(arguments)


def check_source(source: Path) -> None:
    """ValueError unless `source` is one whole GGUF file and the package that reads it is installed."""
    if not source.is_file():
        raise ValueError(f"{source}: no such file")
    with source.open("rb") as file:
        start = file.read(len(MAGIC))
    if start != MAGIC:
        raise ValueError(f"{source} is not a GGUF file: it starts with {start!r}, not {MAGIC!r}")
    if part := PART.search(source.name):
        raise ValueError(f"{source} is one of {int(part[1])} parts; join them first with llama-gguf-split --merge")
    try:
        import gguf  # noqa: F401  transformers needs it, and says so less clearly
    except ImportError as error:
        raise ValueError("reading GGUF needs the gguf package: pip install gguf") from error


def check_target(target: Path) -> None:
    """ValueError if writing to `target` would overwrite anything."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} exists and is not an empty directory; name another, nothing is overwritten")


def convert(source: Path, directory: Path, dtype: str, tokenizer_directory: str | None) -> None:
    """Write model, generation settings and tokenizer of `source` to `directory`."""
    from transformers import AutoModelForCausalLM, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()

    tokenizer = load_tokenizer(source, tokenizer_directory)
    try:
        # Without dequantize the weights stay packed, and save_pretrained refuses.
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(source.parent), gguf_file=source.name, quantization_config=GgufConfig(dequantize=True), dtype=dtype
        )
    except (KeyError, NotImplementedError, ValueError) as error:  # what transformers raises for files it does not know
        raise ValueError(f"transformers cannot read {source}: {error}") from error
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, more than the model's {rows} embeddings")
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    print(describe(model, tokenizer, dtype))


def load_tokenizer(source: Path, directory: str | None) -> Any:
    """The tokenizer in the GGUF, rebuilt by transformers, or the original one from a directory.

    A GGUF names its pre-tokenizer but does not contain it, so transformers guesses it from the architecture; with
    the original tokenizer nothing is guessed.
    """
    from transformers import AutoTokenizer

    if directory is not None:
        if not Path(directory).is_dir():
            raise ValueError(f"--tokenizer {directory}: no such directory")
        return AutoTokenizer.from_pretrained(directory)
    return AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)


def describe(model: Any, tokenizer: Any, dtype: str) -> str:
    """What was found in the file, for the user to compare with the model card."""
    special = ", ".join(
        f"{name} {token!r} ({number})"
        for name, token, number in (
            ("bos", tokenizer.bos_token, tokenizer.bos_token_id),
            ("eos", tokenizer.eos_token, tokenizer.eos_token_id),
            ("pad", tokenizer.pad_token, tokenizer.pad_token_id),
        )
    )
    template = "yes" if tokenizer.chat_template else "none (use data.template=r1_zero or few_shot)"
    size = f"{model.num_parameters() / 1e6:.1f} M parameters, {dtype}"
    return f"{type(model).__name__}, {size}\ntokenizer: {len(tokenizer)} tokens, {special}, chat template: {template}"


def verify(directory: Path, question: str) -> None:
    """Load what was written, as training will, and answer one question greedily."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    model: Any = AutoModelForCausalLM.from_pretrained(directory)
    bad = [name for name, weight in model.named_parameters() if not bool(weight.isfinite().all())]
    if bad:
        raise ValueError(f"{len(bad)} weights are not finite, the first is {bad[0]}: the GGUF is damaged")
    text = question
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=not tokenizer.chat_template)
    output = model.generate(
        inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False, max_new_tokens=40
    )
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    print(f"asked {question!r}, it says {answer!r}")


if __name__ == "__main__":
    main()
