"""`halftone serve` over HTTP: answers, streams, limits, malformed requests, several ranks."""
import array
import http.client
import json
import math
import os
import random
import signal
import socket
import subprocess
import threading
from pathlib import Path

from checkpoints import Tensor, floats_of, write_safetensors
from halftone_cli import INPUT, NANO_LLAMA, USAGE, command_line, main
from models import ModelTest

FP32 = ("--dtype", "float32")
PROMPT = "She opened the door and"


class Server:
    """A running `halftone serve`."""

    def __init__(self, *options, ranks=None, model=NANO_LLAMA):
        self.ranks = ranks
        line = command_line("serve", "--model", model, "--port", 0, "--json", *FP32, "--device",
                            "cpu", *options, ranks=ranks)
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        encoding="utf-8")
        text = ""
        while not text.rstrip().endswith("}"):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(self.process.stderr.read())
            text += line
        self.port = int(json.loads(text)["address"].rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def stop(self):
        """SIGTERM to the program; of several ranks to the first, whose end is the others'."""
        pid = self.process.pid
        if self.ranks:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pid = min(map(int, children))
        os.kill(pid, signal.SIGTERM)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors

    def ask(self, method, path, body=None, headers=None):
        """Status and the body as text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
            connection.request(method, path, raw, headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def post(self, path="/v1/completions", **body):
        status, text = self.ask("POST", path, body)
        return status, json.loads(text)

    def choices(self, **body):
        status, answer = self.post(**body)
        assert status == 200, answer
        return answer["choices"]

    def events(self, path="/v1/completions", **body):
        _, text = self.ask("POST", path, {**body, "stream": True})
        lines = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
        assert lines[-1] == "[DONE]", lines
        return [json.loads(line) for line in lines[:-1]]


def log_softmax(row):
    greatest = max(row)
    total = math.log(sum(math.exp(value - greatest) for value in row)) + greatest
    return [value - total for value in row]


class ServeTest(ModelTest):
    def tokens_of(self, text, *options):
        source = self.write("text.jsonl", json.dumps({"text": text}) + "\n")
        out = self.succeed("tokenize", "--model", NANO_LLAMA, "--input", source, *options).stdout
        return json.loads(out)["ids"]

    def continued(self, prompts, *options):
        source = self.write("prompts.jsonl", "".join(json.dumps(line) + "\n" for line in prompts))
        target = self.folder / "continued.jsonl"
        self.succeed("evaluate", "--model", NANO_LLAMA, "--tasks", "generate", "--input", source,
                     "--output", target, *FP32, *options)
        return [json.loads(line) for line in target.read_text().splitlines()]

    def log_probabilities(self, ids):
        """Of each id behind those in front of it, and the most probable one there."""
        path = self.folder / "ids.safetensors"
        write_safetensors(path, {"input_ids": Tensor("I64", [1, len(ids)],
                                                     array.array("q", ids).tobytes())})
        logits = self.logits(NANO_LLAMA, path, *FP32)["logits"]
        values, width = floats_of(logits), logits.shape[-1]
        rows = [log_softmax(values[at:at + width]) for at in range(0, len(values), width)]
        return [(row[id], max(row)) for row, id in zip(rows, ids[1:])]


class Answers(ServeTest):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def test_greedy_as_the_task_generates(self):
        ids = self.tokens_of(PROMPT)
        expected = self.continued([ids], "--max-tokens", 12)[0]
        for prompt in (PROMPT, ids, [ids], [PROMPT]):
            choice = self.server.choices(prompt=prompt, max_tokens=12, temperature=0)[0]
            self.assertEqual(choice["text"], expected["text"])
            self.assertEqual(choice["finish_reason"], expected["finish_reason"])

    def test_several_prompts_and_copies(self):
        prompts = [PROMPT, "The cat", "Once upon a time there was"]
        alone = [self.server.choices(prompt=prompt, max_tokens=6, temperature=0)[0]["text"]
                 for prompt in prompts]
        together = self.server.choices(prompt=prompts, max_tokens=6, temperature=0, n=2)
        self.assertEqual([choice["text"] for choice in together],
                         [text for text in alone for _ in range(2)])
        self.assertEqual([choice["index"] for choice in together], list(range(6)))
        drawn = self.server.choices(prompt=PROMPT, max_tokens=8, temperature=1.5, n=4, seed=5)
        self.assertGreater(len({choice["text"] for choice in drawn}), 1)
        again = self.server.choices(prompt=PROMPT, max_tokens=8, temperature=1.5, n=4, seed=5)
        self.assertEqual(drawn, again)

    def test_echo_with_log_probabilities(self):
        """What lm-eval asks for: token ids, echo, one further token."""
        ids = self.tokens_of(PROMPT)
        choice = self.server.choices(prompt=ids, max_tokens=1, temperature=0, logprobs=1, echo=True)[0]
        said = choice["logprobs"]
        self.assertEqual(len(said["tokens"]), len(ids) + 1)
        self.assertIsNone(said["token_logprobs"][0])
        self.assertIsNone(said["top_logprobs"][0])
        for found, top, (own, best) in zip(said["token_logprobs"][1:], said["top_logprobs"][1:],
                                           self.log_probabilities(ids)):
            self.assertAlmostEqual(found, own, delta=1e-3)
            self.assertAlmostEqual(max(top.values()), best, delta=1e-3)
        self.assertTrue(choice["text"].startswith(PROMPT))
        only = self.server.choices(prompt=ids, max_tokens=0, logprobs=0, echo=True)[0]
        self.assertEqual(only["text"], PROMPT)
        self.assertEqual(len(only["logprobs"]["tokens"]), len(ids))

    def test_streams(self):
        whole = self.server.choices(prompt=PROMPT, max_tokens=16, temperature=0, logprobs=2)[0]
        events = self.server.events(prompt=PROMPT, max_tokens=16, temperature=0, logprobs=2,
                                    stream_options={"include_usage": True})
        self.assertEqual(events[-1]["usage"]["completion_tokens"], 16)
        pieces = [event["choices"][0] for event in events[:-1]]
        self.assertEqual("".join(piece["text"] for piece in pieces), whole["text"])
        self.assertEqual(pieces[-1]["finish_reason"], "length")
        self.assertEqual([token for piece in pieces for token in piece["logprobs"]["tokens"]],
                         whole["logprobs"]["tokens"])

    def test_stop_strings(self):
        text = self.server.choices(prompt=PROMPT, max_tokens=24, temperature=0)[0]["text"]
        stop = text[7:10]
        choice = self.server.choices(prompt=PROMPT, max_tokens=24, temperature=0, stop=[stop])[0]
        self.assertEqual(choice["text"], text[:text.index(stop)])
        self.assertEqual(choice["finish_reason"], "stop")
        events = self.server.events(prompt=PROMPT, max_tokens=24, temperature=0, stop=stop)
        self.assertEqual("".join(event["choices"][0]["text"] for event in events), choice["text"])

    def test_other_routes(self):
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)
        _, text = self.server.ask("GET", "/v1/models")
        self.assertEqual(json.loads(text)["data"][0]["id"], NANO_LLAMA.name)
        self.server.choices(prompt=PROMPT, max_tokens=3)
        metrics = self.server.ask("GET", "/metrics")[1]
        self.assertRegex(metrics, r'route="/v1/completions",status="200"} \d+')
        self.assertRegex(metrics, r"(?m)^halftone_generated_tokens_total [1-9]")
        self.assertEqual(self.server.ask("GET", "/nowhere")[0], 404)

    def test_malformed_requests(self):
        for body in (b"", b"{", b"[]", b"\xff\xfe", b"{\"prompt\": \"a\"} x", b"[" * 5000,
                     b'{"prompt": "a", "prompt": "b"}'):
            with self.subTest(body=body[:20]):
                status, text = self.server.ask("POST", "/v1/completions", body)
                self.assertEqual(status, 400, text)
                self.assertIn("message", json.loads(text)["error"])
        for param, body in (
                ("prompt", {"prompt": None}), ("prompt", {"prompt": 7}), ("prompt", {"prompt": []}),
                ("prompt", {"prompt": [[]]}), ("prompt", {"prompt": [-1]}),
                ("prompt", {"prompt": [1 << 40]}), ("prompt", {"prompt": [1.5]}),
                ("prompt", {"prompt": [5] * 4000}), ("max_tokens", {"max_tokens": 0}),
                ("max_tokens", {"max_tokens": "many"}), ("max_tokens", {"max_tokens": 1 << 20}),
                ("temperature", {"temperature": -1}), ("top_p", {"top_p": 2}),
                ("n", {"n": 100000}), ("stop", {"stop": 3}), ("stream", {"stream": "yes"}),
                ("logprobs", {"logprobs": 1e9}), ("logit_bias", {"logit_bias": {"5": 1}}),
                ("seed", {"seed": 1 << 64})):
            with self.subTest(body=str(body)[:40]):
                status, answer = self.server.post(**{"prompt": "a", **body})
                self.assertEqual(status, 400, answer)
                self.assertEqual(answer["error"]["param"], param)
        draw = random.Random(4)
        for _ in range(40):
            body = bytearray(json.dumps({"prompt": PROMPT, "max_tokens": 1}).encode())
            for _ in range(3):
                body[draw.randrange(len(body))] = draw.randrange(256)
            self.assertIn(self.server.ask("POST", "/v1/completions", bytes(body))[0], (200, 400))
        self.assertEqual(len(self.server.choices(prompt="a", max_tokens=1)), 1)

    def test_many_clients_and_some_that_leave(self):
        expected = self.server.choices(prompt=PROMPT, max_tokens=20, temperature=0)[0]["text"]
        found = []

        def ask():
            found.append(self.server.choices(prompt=PROMPT, max_tokens=20, temperature=0)[0]["text"])

        def leave():
            with socket.create_connection(("127.0.0.1", self.server.port)) as link:
                body = json.dumps({"prompt": PROMPT, "max_tokens": 400, "stream": True}).encode()
                link.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: "
                             + str(len(body)).encode() + b"\r\n\r\n" + body)
                link.recv(100)

        threads = [threading.Thread(target=leave if i % 4 == 0 else ask) for i in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(found, [expected] * 24)


class Limits(ServeTest):
    def test_key_queue_and_end(self):
        key = self.write("key", "sesame\n")
        with Server("--api-key-file", key, "--max-queue", 2, "--max-body-bytes", 2000) as server:
            self.assertEqual(server.ask("GET", "/health")[0], 200)
            self.assertEqual(server.ask("GET", "/v1/models")[0], 401)
            right = {"Authorization": "Bearer sesame"}
            self.assertEqual(server.ask("GET", "/v1/models", headers=right)[0], 200)
            wrong = {"Authorization": "Bearer sesamf"}
            self.assertEqual(server.ask("GET", "/v1/models", headers=wrong)[0], 401)
            body = {"prompt": ["a", "b", "c"], "max_tokens": 1}
            self.assertEqual(server.ask("POST", "/v1/completions", body, right)[0], 400)
            self.assertEqual(server.ask("POST", "/v1/completions", {"prompt": "a" * 3000}, right)[0],
                             413)
            status, _ = server.ask("POST", "/v1/completions", {"prompt": "a", "max_tokens": 2}, right)
            self.assertEqual(status, 200)
            code, errors = server.stop()
            self.assertEqual(code, 0, errors)

    def test_ranks(self):
        with Server(ranks=2) as server:
            texts = [choice["text"] for choice in
                     server.choices(prompt=[PROMPT, "The cat"], max_tokens=8, temperature=0)]
            expected = self.continued([self.tokens_of(PROMPT), self.tokens_of("The cat")],
                                      "--max-tokens", 8)
            self.assertEqual(texts, [line["text"] for line in expected])
            code, errors = server.stop()
            self.assertEqual(code, 0, errors)

    def test_refusals(self):
        arguments = ("serve", "--model", NANO_LLAMA, "--device", "cpu")
        self.refuse(USAGE, ["--api-key-file"], *arguments, "--host", "0.0.0.0")
        self.refuse(USAGE, ["--context"], *arguments, "--context", 1 << 30)
        self.refuse(INPUT, ["first line"], *arguments, "--api-key-file", self.write("key", "\n"))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.refuse(4, ["--port"], *arguments, "--port", taken.getsockname()[1])


if __name__ == "__main__":
    main()
