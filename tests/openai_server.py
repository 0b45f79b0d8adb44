"""A local server that speaks OpenAI's protocol, well and badly."""

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Server(ThreadingHTTPServer):
    """Answers according to a word in the dialogue, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = Counter()
        self.keys = set()
        self.prompts = []
        self.reply = None  # of all dialogues, given the whole prompt
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        """A client that has hung up is no news."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        text = prompt.rpartition("Agent:")[2].strip()
        with self.server.lock:
            self.server.asked[text] += 1
            self.server.keys.add(self.headers["Authorization"])
            self.server.prompts.append(prompt)
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
        try:
            assert self.path == "/v1/chat/completions" and body["temperature"] == 0 and body["model"] == "m"
            self.say(self.server.reply(prompt)) if self.server.reply else self.answer(text)
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    def answer(self, text):
        match text.split():
            case ["slow"]:
                time.sleep(0.6)
                self.say("2")
            case ["broken"]:
                self.send(500, b"{}")
            case ["recovers"]:
                self.say("1") if self.server.asked[text] > 1 else self.send(500, b"{}")
            case ["forbidden"]:
                self.send(401, b'{"error": {"message": "no"}}')
            case ["garbage"]:
                self.send(200, b"<html>")
            case ["empty"]:
                self.send(200, b'{"choices": []}')
            case ["hangs", "up"]:
                self.close_connection = True
                self.connection.close()
            case ["wordy"]:
                self.say("2", finish_reason="length")
            case ["busy", *_]:
                time.sleep(0.05)
                self.say("0")
            case _:
                self.say(text)

    def say(self, content, finish_reason="stop"):
        message = {"role": "assistant", "content": content}
        choices = [{"index": 0, "finish_reason": finish_reason, "message": message}]
        body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}
        self.send(200, json.dumps(body).encode())

    def send(self, code, body):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
