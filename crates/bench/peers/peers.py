"""Times other engines on the weights that `sightline bench` made: llama.cpp, PyTorch, mistral.rs.

`sightline bench --peers` starts this script and reads its standard output, which carries nothing
but JSON objects, one a line; what the libraries say goes to standard error. Four commands:

    info     which of the peers can be imported, and their versions
    convert  a Hugging Face folder of SmolVLM weights to the GGUF files that llama.cpp reads
    run      load, encode, prefill, decode and first token, timed in one engine
    train    whole training steps of a small model in PyTorch

The weights are random and stand for speed only, so the tokenizer in the GGUF files is a made-up
one: single bytes, the special tokens that llama.cpp puts around a picture, and filler.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import importlib
import importlib.metadata
import io
import json
import os
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Iterator, NoReturn

from convert import convert
from timing import Step, memory_mib, timed
from training import train

TILE = 512
PICTURE = 2048
TILE_PROMPT = 86
PICTURE_PROMPT = 1146
NEW_TOKENS = 128
PACKAGES = {"llama_cpp": "llama-cpp-python"}
CONTEXT = 2048
WORKS = "load,encode,prefill_512,prefill_1100,decode,first_token_tile,first_token_picture"


def claim_stdout() -> Any:
    """Keeps standard output for JSON and sends everything else written there to standard error."""
    kept = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return kept


def read_through(paths: list[Path]) -> None:
    """Brings files into the page cache."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def picture(side: int) -> Any:
    """RGB bytes of a square picture: gradients under noise, the same every time."""
    import numpy as np

    across = np.linspace(0, 191, side, dtype=np.float32)
    noise = np.random.default_rng(side).integers(0, 64, (side, side, 3), dtype=np.uint8)
    channels = (across[None, :], across[:, None], (across[None, :] + across[:, None]) / 2)
    flat = np.stack([np.broadcast_to(c, (side, side)) for c in channels], axis=-1)
    return np.ascontiguousarray(flat.astype(np.uint8) + noise)


def random_ids(count: int, vocabulary: int) -> list[int]:
    import numpy as np

    return np.random.default_rng(count).integers(vocabulary // 2, vocabulary, count).tolist()


def info() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name in ("torch", "transformers", "llama_cpp", "mistralrs"):
        try:
            importlib.import_module(name)
            versions[name] = importlib.metadata.version(PACKAGES.get(name, name)).split("+")[0]
        except Exception:
            versions[name] = None
    return versions


# The engines. Each has load, encode, prefill, decode and first_token.


def show_error(level: int, text: bytes, _: Any) -> None:
    """Passes on what llama.cpp logs at its level 4, which is for errors."""
    if level == 4:
        print(text.decode(errors="replace"), end="", file=sys.stderr)


class Llama:
    """llama.cpp through the C functions that llama-cpp-python exports."""

    def __init__(self, gguf: Path, text_format: str, mmproj: str, threads: int) -> None:
        import llama_cpp
        from llama_cpp import mtmd_cpp

        self.api, self.mtmd, self.threads = llama_cpp, mtmd_cpp, threads
        self.files = [gguf / f"text-{text_format}.gguf", gguf / f"mmproj-{mmproj}.gguf"]
        self.load_facts = {"mmproj": mmproj}
        self.log = llama_cpp.llama_log_callback(show_error)
        llama_cpp.llama_log_set(self.log, None)
        mtmd_cpp.mtmd_log_set(self.log, None)
        mtmd_cpp.mtmd_helper_log_set(self.log, None)

    def load(self) -> None:
        text, projector = (str(path).encode() for path in self.files)
        self.api.llama_backend_init()
        model_params = self.api.llama_model_default_params()
        model_params.use_mmap = True
        self.model = self.api.llama_model_load_from_file(text, model_params)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {self.files[0]}")
        params = self.api.llama_context_default_params()
        params.n_ctx = params.n_batch = CONTEXT
        params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = self.threads
        self.context = self.api.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError("llama.cpp cannot make a context")
        self.memory = self.api.llama_get_memory(self.context)
        vocabulary = self.api.llama_model_get_vocab(self.model)
        self.vocabulary = self.api.llama_vocab_n_tokens(vocabulary)
        vision = self.mtmd.mtmd_context_params_default()
        vision.use_gpu = vision.print_timings = vision.warmup = False
        vision.n_threads = self.threads
        self.vision = self.mtmd.mtmd_init_from_file(projector, self.model, vision)
        if not self.vision:
            raise RuntimeError(f"llama.cpp cannot load {self.files[1]}")

    def prepare(self, pixels: Any) -> tuple[Any, list[Any]]:
        """Has llama.cpp cut a picture. Gives its chunks, to be freed, and those to be read.

        The last one to be read is the last tile, or for a picture of one tile the first: llama.cpp
        prepares such a picture twice, as a whole and as its own only part.
        """
        side = len(pixels)
        data = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = self.mtmd.mtmd_bitmap_init(side, side, data)
        marker = self.mtmd.mtmd_default_marker()
        text = self.mtmd.mtmd_input_text(marker, len(marker), False, True)
        owner = self.mtmd.mtmd_input_chunks_init()
        bitmaps = (self.mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
        failed = self.mtmd.mtmd_tokenize(self.vision, owner, ctypes.byref(text), bitmaps, 1)
        self.mtmd.mtmd_bitmap_free(bitmap)
        if failed:
            raise RuntimeError(f"mtmd_tokenize answered {failed}")
        count = self.mtmd.mtmd_input_chunks_size(owner)
        chunks = [self.mtmd.mtmd_input_chunks_get(owner, index) for index in range(count)]
        tiles = [index for index, chunk in enumerate(chunks) if self.is_image(chunk)]
        return owner, chunks[: tiles[-1 if side > TILE else 0] + 1]

    def is_image(self, chunk: Any) -> bool:
        kind = self.mtmd.mtmd_input_chunk_get_type(chunk)
        return kind == self.mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE

    def ids(self, count: int) -> Any:
        return (self.api.llama_token * count)(*random_ids(count, self.vocabulary))

    def clear(self) -> None:
        self.api.llama_memory_clear(self.memory, False)

    def feed(self, ids: Any) -> None:
        if self.api.llama_decode(self.context, self.api.llama_batch_get_one(ids, len(ids))):
            raise RuntimeError("llama_decode failed")

    def logits(self) -> Any:
        import numpy as np

        logits = self.api.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(logits, (self.vocabulary,))

    def answer(self, pixels: Any, question: Any) -> int:
        """From the pixels of a picture and a question to the first token."""
        owner, chunks = self.prepare(pixels)
        past = self.api.llama_pos(0)
        for chunk in chunks:
            failed = self.mtmd.mtmd_helper_eval_chunk_single(
                self.vision, self.context, chunk, past, 0, CONTEXT, False, ctypes.byref(past)
            )
            if failed:
                raise RuntimeError(f"mtmd_helper_eval_chunk_single answered {failed}")
        self.mtmd.mtmd_input_chunks_free(owner)
        self.feed(question)
        return int(self.logits().argmax())

    def encode(self) -> Step:
        _, chunks = self.prepare(picture(TILE))
        return Step(lambda: self.mtmd.mtmd_encode_chunk(self.vision, chunks[-1]))

    def prefill(self, count: int) -> Step:
        ids = self.ids(count)
        return Step(lambda: (self.feed(ids), self.logits()), self.clear)

    def decode(self) -> Step:
        prompt = self.first_token(TILE, TILE_PROMPT)
        self.clear()
        first = prompt.run()

        def run() -> None:
            token = (self.api.llama_token * 1)(first)
            for _ in range(NEW_TOKENS):
                self.feed(token)
                token[0] = self.logits().argmax()

        return Step(run, lambda: self.api.llama_memory_seq_rm(self.memory, 0, TILE_PROMPT, -1))

    def first_token(self, side: int, tokens: int) -> Step:
        pixels = picture(side)
        owner, chunks = self.prepare(pixels)
        read = sum(self.mtmd.mtmd_input_chunk_get_n_tokens(chunk) for chunk in chunks)
        tiles = sum(self.is_image(chunk) for chunk in chunks)
        self.mtmd.mtmd_input_chunks_free(owner)
        question = self.ids(tokens - read)
        facts = {"tiles": tiles, "tokens": read + len(question)}
        return Step(lambda: self.answer(pixels, question), self.clear, facts)


class Torch:
    """PyTorch and transformers."""

    def __init__(self, model: Path, dtype: str, threads: int) -> None:
        import torch
        from transformers import DynamicCache, SmolVLMForConditionalGeneration
        from transformers.models.smolvlm.image_processing_smolvlm_fast import (
            SmolVLMImageProcessorFast,
        )

        torch.set_num_threads(threads)
        self.torch, self.new_cache = torch, DynamicCache
        self.model_class = SmolVLMForConditionalGeneration
        self.processor_class = SmolVLMImageProcessorFast
        self.path, self.dtype = model, dtype
        self.load_facts: dict[str, Any] = {}
        self.files = [model / "model.safetensors"]

    def load(self) -> None:
        self.model = self.model_class.from_pretrained(
            self.path, dtype=getattr(self.torch, self.dtype), attn_implementation="sdpa"
        ).eval()
        self.config = self.model.config

    def prepare(self, pixels: Any) -> Any:
        processor = self.processor_class(
            do_convert_rgb=False,
            size={"longest_edge": pixels.shape[0]},
            max_image_size={"longest_edge": TILE},
            do_image_splitting=pixels.shape[0] > TILE,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        )
        return processor(pixels, return_tensors="pt")["pixel_values"]

    def prompt(self, tiles: int, tokens: int) -> Any:
        """Each tile behind two other tokens, and the question after them all."""
        vision = self.config.vision_config
        per_tile = (vision.image_size // vision.patch_size // self.config.scale_factor) ** 2
        text = iter(random_ids(tokens, self.config.text_config.vocab_size))
        ids: list[int] = []
        for _ in range(tiles):
            ids += [next(text), next(text)] + [self.config.image_token_id] * per_tile
        ids += [next(text) for _ in range(tokens - len(ids))]
        return self.torch.tensor([ids])

    def best(self, ids: Any, cache: Any, pixel_values: Any = None) -> Any:
        output = self.model(
            ids, pixel_values=pixel_values, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return output.logits[:, -1].argmax(-1, keepdim=True)

    def encode(self) -> Step:
        pixel_values = self.prepare(picture(TILE))
        return Step(lambda: self.model.get_image_features(pixel_values))

    def prefill(self, count: int) -> Step:
        ids = self.torch.tensor([random_ids(count, self.config.text_config.vocab_size)])
        return Step(lambda: self.model(input_ids=ids, use_cache=True, logits_to_keep=1))

    def decode(self) -> Step:
        cache = self.new_cache(config=self.config.text_config)
        pixel_values = self.prepare(picture(TILE))
        first = self.best(self.prompt(1, TILE_PROMPT), cache, pixel_values)

        def run() -> None:
            token = first
            for _ in range(NEW_TOKENS):
                token = self.best(token, cache)

        return Step(run, lambda: cache.crop(TILE_PROMPT))

    def first_token(self, side: int, tokens: int) -> Step:
        pixels = picture(side)
        tiles = self.prepare(pixels).shape[1]
        ids = self.prompt(tiles, tokens)

        def run() -> Any:
            cache = self.new_cache(config=self.config.text_config)
            return self.best(ids, cache, self.prepare(pixels)).item()

        return Step(run, facts={"tiles": tiles, "tokens": ids.shape[1]})


class Mistral:
    """mistral.rs through its Python package, whose only way in is a chat.

    It tells how long it read and how long it spoke; those times count. It quantises while it loads.
    It looks at pictures only inside a chat, and a chat without one loses its text in the template
    of these checkpoints, so that neither looking nor reading can be timed alone.
    """

    works = ("load", "decode", "first_token_tile")

    def __init__(self, model: Path, text_format: str, threads: int) -> None:
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        import mistralrs

        self.api, self.format = mistralrs, text_format.upper()
        self.folder = tempfile.TemporaryDirectory()
        # It wants the end of text among the tokenizer's words, where our random weights have none.
        special = json.loads((model / "tokenizer.json").read_text())["added_tokens"]
        end = next(token["id"] for token in special if token["content"] == "<end_of_utterance>")
        for path in model.iterdir():
            copy = Path(self.folder.name) / path.name
            if path.name in ("config.json", "generation_config.json"):
                settings = json.loads(path.read_text())
                copy.write_text(json.dumps({**settings, "eos_token_id": end}))
            else:
                copy.symlink_to(path)
        self.load_facts: dict[str, Any] = {}
        self.files = [model / "model.safetensors"]

    def load(self) -> None:
        which = self.api.Which.MultimodalPlain(
            model_id=self.folder.name, arch=self.api.MultimodalArchitecture.Idefics3
        )
        self.runner = self.api.Runner(which=which, in_situ_quant=self.format, prefix_cache_n=0)

    def say(self, content: list[dict[str, Any]], tokens: int) -> Any:
        messages = [{"role": "user", "content": content}]
        request = self.api.ChatCompletionRequest(
            model="default", messages=messages, max_tokens=tokens, temperature=0.0
        )
        return self.runner.send_chat_completion_request(request).usage

    def question(self, side: int) -> list[dict[str, Any]]:
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(picture(side)).save(buffer, "BMP")
        data = base64.b64encode(buffer.getvalue()).decode()
        url = {"url": f"data:image/bmp;base64,{data}"}
        text = {"type": "text", "text": "What can be seen in this picture?"}
        return [{"type": "image_url", "image_url": url}, text]

    def decode(self) -> Step:
        content = self.question(TILE)
        return Step(lambda: NEW_TOKENS / self.say(content, NEW_TOKENS).avg_compl_tok_per_sec)

    def first_token(self, side: int, tokens: int) -> Step:
        content = self.question(side)
        return Step(lambda: self.say(content, 1).total_prompt_time_sec)


def step_of(engine: Llama | Torch | Mistral, work: str) -> Step:
    if work.startswith("prefill_"):
        return engine.prefill(int(work.removeprefix("prefill_")))
    steps = {
        "encode": lambda: engine.encode(),
        "decode": lambda: engine.decode(),
        "first_token_tile": lambda: engine.first_token(TILE, TILE_PROMPT),
        "first_token_picture": lambda: engine.first_token(PICTURE, PICTURE_PROMPT),
    }
    if work not in steps:
        raise ValueError(f"no work is called {work}: choose from {WORKS}")
    return steps[work]()


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if args.engine == "llama.cpp":
        if args.gguf is None:
            raise ValueError("llama.cpp needs --gguf")
        engine = Llama(args.gguf, args.format, args.mmproj, args.threads)
        scope = nullcontext()
    elif args.engine == "mistral.rs":
        engine, scope = Mistral(args.model, args.format, args.threads), nullcontext()
    else:
        dtype = {"torch-f32": "float32", "torch-bf16": "bfloat16"}[args.engine]
        engine = Torch(args.model, dtype, args.threads)
        scope = engine.torch.inference_mode()
    read_through(engine.files)
    before = memory_mib("VmRSS")
    with scope:
        start = time.perf_counter()
        engine.load()
        load_seconds = time.perf_counter() - start
        for work in args.work.split(","):
            if work not in getattr(engine, "works", work):
                continue
            if work == "load":
                yield {"work": work, "seconds": [load_seconds], **engine.load_facts}
            else:
                step = step_of(engine, work)
                # A large picture takes long enough to need neither a warm-up nor repeats.
                trials = (1, False) if work == "first_token_picture" else (args.repeats, True)
                yield {"work": work, "seconds": timed(step, *trials), **step.facts}
    yield {"work": "memory", "peak_mib": memory_mib("VmHWM"), "before_mib": before}


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="peers.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info")
    converting = commands.add_parser("convert")
    converting.add_argument("--model", type=Path, required=True)
    converting.add_argument("--out", type=Path, required=True)
    running = commands.add_parser("run")
    engines = ("llama.cpp", "torch-f32", "torch-bf16", "mistral.rs")
    running.add_argument("--engine", choices=engines, required=True)
    running.add_argument("--model", type=Path, required=True)
    running.add_argument("--gguf", type=Path)
    running.add_argument("--format", choices=("q8_0", "q4_0"), default="q8_0")
    running.add_argument("--mmproj", choices=("q8_0", "f16"), default="f16")
    running.add_argument("--threads", type=int, default=2)
    running.add_argument("--repeats", type=int, default=3)
    running.add_argument("--work", default=WORKS)
    training = commands.add_parser("train")
    training.add_argument("--model", type=Path, required=True)
    training.add_argument("--threads", type=int, default=2)
    training.add_argument("--batch", type=int, default=32)
    training.add_argument("--tokens", type=int, default=252)
    training.add_argument("--engine", choices=("torch-f32", "torch-bf16"), default="torch-f32")
    training.add_argument("--repeats", type=int, default=3)
    return parser.parse_args(arguments)


def main() -> int:
    stdout = claim_stdout()
    try:
        args = parse(sys.argv[1:])
        if args.command == "run":
            for line in run(args):
                print(json.dumps(line), file=stdout)
        elif args.command == "train":
            print(json.dumps(train(args)), file=stdout)
        elif args.command == "convert":
            print(json.dumps(convert(args.model, args.out)), file=stdout)
        else:
            print(json.dumps(info()), file=stdout)
    except Exception as error:
        print(f"peers.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
