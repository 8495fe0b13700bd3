"""Benchmark scripts: what is on disk is not computed again, and what is asked for is said beforehand."""

from stillhouse.core.benchmark import Work, run_script, script_parser
from stillhouse.core.evidence import Bench


def script(tmp_path, arguments, computed, minutes=1.0):
    """A script of two parts whose second shares a piece with the first."""
    bench = Bench("dmd2", tmp_path / "benchmarks")

    def work(name):
        return Work({"arm": name, "version": 1}, lambda: computed.append(name) or len(computed), 60 * minutes)

    parts = {"first": ("a", "b"), "second": ("b", "c")}
    options = script_parser("What it measures.", list(parts)).parse_args(arguments)

    def write():
        return bench.write(())

    run_script(bench, options, lambda part: map(work, parts[part]), write=write, table=lambda: "| a table |")
    return bench


def test_a_script_computes_what_is_missing_once(tmp_path, capsys):
    computed = []
    script(tmp_path, ["--parts", "first"], computed)
    assert computed == ["a", "b"] and "first: 2 pieces, about 2.0 min" in capsys.readouterr().out
    bench = script(tmp_path, [], computed)
    assert computed == ["a", "b", "c"]
    assert bench.results_file.exists()
    assert "second: 1 pieces, about 60 s" in capsys.readouterr().out


def test_a_script_says_and_prints_without_computing(tmp_path, capsys):
    computed = []
    bench = script(tmp_path, ["--estimate"], computed)
    assert capsys.readouterr().out.count("2 pieces") == 2
    script(tmp_path, ["--table"], computed)
    assert capsys.readouterr().out == "| a table |\n"
    assert not computed and not bench.results_file.exists()


def test_a_script_starts_nothing_after_its_minutes(tmp_path):
    computed = []
    bench = script(tmp_path, ["--minutes", "0"], computed)
    assert not computed and bench.results_file.exists(), "what is there is written all the same"
