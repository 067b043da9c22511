# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import unittest

import psbench

QUICK = ("--seconds", "0.1", "--no-ceiling")


class Sessions(unittest.TestCase):
    def measure(self, *arguments):
        """Runs a session that must end well and returns its JSON report."""
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder, "report.json")
            done = psbench.run(*arguments, "--json", report)
            self.assertEqual(done.returncode, psbench.GOOD, done.stderr + done.stdout)
            self.assertIn("verdict: good", done.stdout)
            return json.loads(report.read_text(encoding="utf-8"))

    def test_reports_the_promised_fields(self):
        report = self.measure("--local", "1x2", "--model", "dlrm-mlp", "--dtype", "bf16",
                              "--optimizer", "adamw", "--lanes", "2", "--rounds", "6")
        self.assertEqual(set(report), {"schema", "commit", "environment", "results"})
        (result,) = report["results"]
        self.assertEqual(
            set(result),
            {"model", "bytes", "transport", "servers", "workers", "lanes", "optimizer", "dtype",
             "codec", "pushed_bytes", "rounds", "round_us", "algbw_GBps", "busbw_GBps", "ceiling_GBps", "efficiency",
             "cpu_s_per_GB", "wrong", "counters"})
        self.assertEqual(set(result["round_us"]), {"min", "p50", "p99", "max"})
        self.assertEqual((result["model"], result["bytes"]), ("dlrm-mlp", 2 * 2368897))
        self.assertEqual((result["servers"], result["workers"], result["lanes"]), (1, 2, 2))
        self.assertEqual((result["rounds"], result["wrong"]), (6, 0))
        self.assertAlmostEqual(result["busbw_GBps"], 2 * result["algbw_GBps"], places=6)
        self.assertGreater(result["ceiling_GBps"], 0)
        self.assertGreater(result["cpu_s_per_GB"], 0)

    def test_sweeps_sizes_over_both_transports(self):
        for transport in ("tcp", "loopback"):
            report = self.measure("--transport", transport, "--local", "2x2", "--sizes",
                                  "4K:1M:x16", *QUICK)
            self.assertEqual([r["bytes"] for r in report["results"]], [4096, 65536, 1 << 20])

    def test_audits_every_round_in_every_dtype(self):
        for dtype in ("fp32", "fp16", "bf16"):
            report = self.measure("--audit", "--optimizer", "sgd", "--dtype", dtype, "--local",
                                  "2x3", "--lanes", "2", "--slice", "4K", "--sizes", "1M",
                                  "--rounds", "20", "--no-ceiling")
            self.assertEqual(report["results"][0]["wrong"], 0)

    def test_checks_the_bits_of_every_optimizer(self):
        for optimizer in ("sgd", "momentum", "nesterov", "adam:epsilon_form=hat", "adamw", "adagrad:clip=0.01",
                          "decayed_adagrad", "rmsprop", "rmsprop:centred=1,momentum=0.9", "adamax",
                          "ftrl:initial_accumulator=0.1",
                          "lion:schedule=cosine,period=5,warmup=2"):
            self.measure("--optimizer", optimizer, "--sizes", "100K", *QUICK)

    def test_checks_the_bits_of_every_codec_over_every_transport(self):
        pushed = {"2bit:threshold=0.5": 250_000, "1bit:threshold=0.5": 125_000,
                  "int8:block=64": 1_062_500, "fp8_e4m3:block=256": 1_015_640,
                  "fp8_e5m2:block=4096": 1_000_988, "topk:fraction=0.01": 80_016}
        for transport in ("tcp", "shm", "loopback"):
            for codec, count in pushed.items():
                report = self.measure("--codec", codec, "--transport", transport, "--local", "2x2",
                                      "--sizes", "4000000", "--optimizer", "adamw", *QUICK)
                (result,) = report["results"]
                self.assertEqual((result["codec"], result["wrong"]), (codec, 0))
                self.assertAlmostEqual(result["pushed_bytes"], count, delta=200)
                self.assertEqual(result["bytes"], 4000000)

    def test_encodes_gradients_of_parameters_in_sixteen_bits(self):
        for dtype in ("fp16", "bf16"):
            self.measure("--codec", "int8", "--dtype", dtype, "--lanes", "2", "--sizes", "300K",
                         *QUICK)

    def test_works_with_more_lanes_than_processors(self):
        self.measure("--lanes", 2 * (os.cpu_count() or 1), "--sizes", "1M", *QUICK)

    def test_ends_with_3_below_the_target(self):
        done = psbench.run("--sizes", "4K", *QUICK, "--min-busbw", "100000")
        self.assertEqual(done.returncode, psbench.BELOW_TARGET)
        self.assertIn("too slow", done.stdout)

    def test_says_what_the_transport_counted(self):
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder, "report.json")
            done = psbench.run("--transport", "tcp", "--model", "dlrm-mlp", "--json", report, *QUICK)
            self.assertEqual(done.returncode, psbench.GOOD, done.stderr + done.stdout)
            (result,) = json.loads(report.read_text(encoding="utf-8"))["results"]
            for role in ("workers", "servers"):
                self.assertRegex(done.stdout, rf"{role}' data by tcp: .*bytes_sent \d")
                self.assertGreater(result["counters"][role]["tcp"]["bytes_sent"],
                                   result["rounds"] * result["bytes"])

    def test_measures_one_transport_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder, "report.json")
            done = psbench.run("raw", "--transport", "tcp", "--op", "write", "--sizes", "8,64K",
                               "--messages", 900, "--json", report)
            self.assertEqual(done.returncode, psbench.GOOD, done.stderr + done.stdout)
            self.assertEqual(len(re.findall(r"counted on tcp: .*bytes_sent \d", done.stdout)), 2)
            results = json.loads(report.read_text(encoding="utf-8"))["results"]
            self.assertEqual([row["bytes"] for row in results], [8, 65536] * 2)
            for row in results:
                self.assertGreater(row["counters"]["tcp"]["bytes_sent"], 900 * row["bytes"])
            for row in results[:2]:  # too short to be timed in parts: completions come in bursts
                self.assertEqual(row["peak_GBps"], row["average_GBps"])

    def test_writes_a_csv_with_one_line_a_size(self):
        with tempfile.TemporaryDirectory() as folder:
            table = pathlib.Path(folder, "report.csv")
            done = psbench.run("--sizes", "4K,8K", *QUICK, "--csv", table)
            self.assertEqual(done.returncode, psbench.GOOD)
            lines = table.read_text(encoding="utf-8").splitlines()
            self.assertEqual(len(lines), 3)
            self.assertEqual({line.count(",") for line in lines}, {lines[0].count(",")})


class WrongInput(unittest.TestCase):
    def refuse(self, code, sentence, *arguments):
        done = psbench.run(*arguments)
        self.assertEqual(done.returncode, code, (arguments, done.stderr, done.stdout))
        said = done.stderr + done.stdout
        self.assertIn(sentence, said, arguments)
        self.assertNotIn("Traceback", said)
        self.assertNotIn("CHECK", said)

    def test_ends_with_one_sentence_and_64(self):
        for arguments, sentence in [
                (("--model", "resnet51"), "known: resnet50"),
                (("--sizes", "0"), "the smallest is 1 byte"),
                (("--sizes", "8K:4K"), "counts down"),
                (("--sizes", "much"), "is not a size"),
                (("--local", "2"), "1x2"),
                (("--local", "0x1"), ""),
                (("--local", "1000x1000"), "on one host"),
                (("--lanes", "0"), "must be 1 to"),
                (("--slice", "1"), "--slice"),
                (("--optimizer", "sgdd"), "sgd"),
                (("--optimizer", "adam:beta1=1"), "beta1 is 1"),
                (("--optimizer", "adam:betta=1"), "'betta'"),
                (("--dtype", "fp8"), "fp32"),
                (("--dtype", "fp8_e4m3"), "parameters are never encoded"),
                (("--codec", "3bit"), "known: none, fp8_e4m3"),
                (("--codec", "2bit:threshold=0"), "codec threshold is 0"),
                (("--codec", "int8:block=3"), "codec block is 3"),
                (("--codec", "topk:fraction=nan"), "codec fraction is nan"),
                (("--audit", "--codec", "2bit"), "--codec 2bit"),
                (("--transport", "pigeon"), "known: "),
                (("--audit", "--optimizer", "adam"), "sgd"),
                (("--server-memory", "disk"), "cuda"),
                (("--ktls",), "--encrypt"),
                (("--zerocopy", "--encrypt"), "--encrypt"),
                (("--rounds", "many"), "--rounds"),
                (("--no-such-option",), "--no-such-option"),
                (("traim",), "traim")]:
            self.refuse(psbench.USAGE, sentence, *arguments)

    def test_servers_on_a_gpu_that_is_not_there_are_refused_at_once(self):
        done = psbench.run("--server-memory", "cuda", "--sizes", "4K", "--rounds", "2")
        if done.returncode == psbench.GOOD:
            self.skipTest("this host has a GPU")
        self.assertEqual(done.returncode, psbench.ENVIRONMENT, done.stdout + done.stderr)
        self.assertRegex(done.stdout + done.stderr, "no GPU|libpenstock_cuda.so")

    def test_names_a_transport_that_does_not_encrypt(self):
        for transport in ("verbs", "ucx"):
            for command in ((), ("raw",)):
                self.refuse(psbench.ENVIRONMENT, f"{transport} does not encrypt", *command,
                            "--transport", transport, "--encrypt", "--sizes", "4K")

    def test_names_a_port_that_is_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.refuse(psbench.ENVIRONMENT, f"127.0.0.1:{port}", "--port", port, "--sizes", "4K",
                        *QUICK)

    def test_names_a_secret_file_it_cannot_use(self):
        with tempfile.TemporaryDirectory() as folder:
            absent = pathlib.Path(folder, "absent")
            done = psbench.run("--secret-file", absent, "--sizes", "4K", *QUICK)
            self.assertNotEqual(done.returncode, psbench.GOOD)
            self.assertIn(str(absent), done.stderr + done.stdout)
            short = pathlib.Path(folder, "short")
            short.write_text("short", encoding="ascii")
            short.chmod(0o600)
            done = psbench.run("--secret-file", short, "--sizes", "4K", *QUICK)
            self.assertNotEqual(done.returncode, psbench.GOOD)
            self.assertIn(str(short), done.stderr + done.stdout)

    def test_names_a_report_it_cannot_write(self):
        done = psbench.run("--sizes", "4K", *QUICK, "--json", "/nonexistent/report.json")
        self.assertEqual(done.returncode, psbench.ENVIRONMENT)
        self.assertIn("/nonexistent/report.json", done.stderr + done.stdout)


class Endings(unittest.TestCase):
    LONG = ("--model", "dlrm-mlp", "--seconds", "3600", "--no-ceiling", "--no-check")

    def start(self, *arguments):
        """A session that would go on for an hour, once all four processes are there."""
        process = psbench.start(*self.LONG, *arguments)
        self.addCleanup(self.put_away, process)
        nodes = psbench.wait_for(
            lambda: (lambda found: found if len(found) == 4 else None)(
                psbench.children(process.pid)), "a scheduler, a server and two workers")
        for node in nodes[1:]:
            psbench.wait_for(lambda node=node: len(os.listdir(f"/proc/{node}/task")) > 1,
                             "its threads")
        return process, nodes

    @staticmethod
    def put_away(process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def expect_nothing_left(self, nodes):
        psbench.wait_for(lambda: not any(map(psbench.alive, nodes)), "the nodes' end")

    def test_ctrl_c_prints_what_was_measured_and_leaves_nothing(self):
        process, nodes = self.start("--local", "1x2")
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=psbench.DEADLINE_S)
        self.assertIn("interrupted", stdout + stderr)
        self.assertRegex(stdout, r"\ndlrm-mlp .* 9475588 ")
        self.expect_nothing_left(nodes)

    def test_its_own_death_leaves_nothing(self):
        process, nodes = self.start("--local", "1x2")
        process.kill()
        process.communicate(timeout=psbench.DEADLINE_S)
        self.expect_nothing_left(nodes)

    def test_the_death_of_any_node_is_named_and_ends_the_run(self):
        for role, index in (("scheduler", 0), ("server", 1), ("worker", 3)):
            process, nodes = self.start("--local", "1x2")
            os.kill(nodes[index], signal.SIGKILL)
            stdout, stderr = process.communicate(timeout=psbench.DEADLINE_S)
            self.assertEqual(process.returncode, psbench.ENVIRONMENT, (role, stdout, stderr))
            self.assertRegex(stdout, rf"failed: .*{role}.* was ended by signal 9")
            self.expect_nothing_left(nodes)

    def test_the_secret_is_in_no_command_line_and_no_environment(self):
        with tempfile.TemporaryDirectory() as folder:
            secret = pathlib.Path(folder, "secret")
            text = os.urandom(32).hex()
            secret.touch(mode=0o600)
            secret.write_text(text + "\n", encoding="ascii")
            process, nodes = self.start("--local", "1x2", "--secret-file", secret)
            for pid in [process.pid, *nodes]:
                for name in ("cmdline", "environ"):
                    shown = pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
                    self.assertNotIn(text.encode(), shown)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=psbench.DEADLINE_S)
            self.assertNotIn(text, stdout + stderr)
            self.expect_nothing_left(nodes)

    def test_a_closed_pipe_ends_it(self):
        done = subprocess.run(f"{psbench.PROGRAM} --sizes 4K,8K --seconds 0.1 --no-ceiling | true",
                              shell=True, stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=psbench.DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main()
