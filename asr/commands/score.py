"""Score hypotheses against references under any protocol: phone error rates that say what they are.

It reads arguments, calls `asr.scoring` and writes the reports; nothing large is imported before
`--help` is answered.
"""

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import DataError, exit_code
from asr.files.outputs import atomic_open, require_new

if TYPE_CHECKING:
    from asr.scoring import Report, Score, Transcripts

MOST_SAMPLES = 100_000  # of the bootstrap, for whose counts memory is needed
EXAMPLES = """\
  asr score exp/lstm/1/manifests/test.jsonl exp/lstm/1/test.hyp.jsonl
  asr score ref.trn hyp.trn --protocol all --html report.html
  asr score text decoded.txt --scorer sclite --json - | jq .total.per
  asr score ref.trn seed1.trn seed2.trn seed3.trn        mean ± sd over seeds
  asr score ref.trn ours.trn --compare theirs.trn        which is better, is it significant
  asr score ref.trn espeak.txt --symbols arpabet,ipa --protocol arpabet
"""


@exit_code
def main(argv: list[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(argv)
    from asr.scoring import FORMATS, protocol_names

    if not 0 <= options.bootstrap <= MOST_SAMPLES or options.seed < 0:
        parser.error(f"--bootstrap and --seed: expected 0 or more, samples up to {MOST_SAMPLES:,}")
    if options.protocol not in (None, *protocol_names(), "words", "all"):
        parser.error(f"--protocol: known are {', '.join(protocol_names())}, words and all")
    names = options.format.split(",") if options.format else [None]
    if len(names) > 2 or not set(names) <= {None, *FORMATS}:
        parser.error(f"--format: expected one or two of {', '.join(FORMATS)}, as in jsonl,ctm")
    options.format = names[0], names[-1]
    if options.symbols is not None:
        from asr.symbols import ALPHABETS

        alphabets = options.symbols.split(",")
        if len(alphabets) > 2 or not set(alphabets) <= set(ALPHABETS):
            parser.error(f"--symbols: expected one or two of {', '.join(ALPHABETS)}")
        options.symbols = alphabets[0], alphabets[-1]
    written = {name: vars(options).pop(name) for name in ("output", "json", "html")}
    written["output"] = None if written["output"] == "-" else written["output"]
    files = [path for path in written.values() if path not in (None, "-")]
    if len({*map(os.path.abspath, files)}) < len(files):
        parser.error("--output, --json and --html: expected several files, found one")
    inputs = options.reference, *options.hypotheses, options.compare, options.map
    require_new(files, vars(options).pop("overwrite"), inputs)
    with without_garbage_collection():
        _write(run(**vars(options)), **written)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Scoring makes no circular garbage, and collecting it takes as long as scoring itself."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def run(
    reference: str | Path,
    hypotheses: Sequence[str | Path],
    *,
    protocol: str | None = None,
    scorer: str = "levenshtein",
    format: tuple[str | None, str | None] = (None, None),
    symbols: tuple[str | None, str | None] | None = None,
    tier: str | None = None,
    map: str | Path | None = None,
    missing: str = "error",
    compare: str | Path | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> "list[Report]":
    """One report for every protocol and hypothesis file, in that order.

    `protocol` None is that of the run that the hypotheses are of, or else "strict". `format` are
    those of the reference and the hypotheses; None: detected from the files. `symbols` are their
    alphabets of `asr.symbols`; None: the labels that the protocol knows. `tier` is a TextGrid's,
    `map` a file to fold by, `compare` another system's hypotheses.
    """
    from asr import scoring

    @cache
    def transcripts(path: str | Path) -> "Transcripts":
        is_hypothesis = path != reference
        read = scoring.read_transcripts(path, format[is_hypothesis], tier)
        return scoring.in_phones(read, symbols[is_hypothesis] if symbols else None)

    def scored(path: str | Path, protocol: "scoring.Protocol") -> "Score":
        return scoring.score_transcripts(
            transcripts(reference), transcripts(path), protocol, scorer, missing, both_scorers=True
        )

    if protocol is None:
        protocol = "strict" if map is not None else _protocol_of([*hypotheses, reference])
    if len({os.path.realpath(path) for path in hypotheses}) < len(hypotheses):
        raise DataError("a file of hypotheses is given twice; expected one file of each run")
    reports = []
    for chosen in scoring.protocols_named(protocol, map):
        scores = [scored(path, chosen) for path in hypotheses]
        if all(score.total.ref == 0 for score in scores) and protocol != "all":
            raise DataError(
                f"{reference}: the references hold no phones under {chosen.name}, so PER is "
                f"undefined: {scores[0].line()}"
            )
        runs = scoring.runs(scores)
        other = None if compare is None else scored(compare, chosen)
        for score in scores:
            comparison = None
            if other is not None and score.total.ref:
                comparison = scoring.compare(score, other, chosen, bootstrap, seed)
            sure = scoring.with_intervals(score, bootstrap, seed)
            reports.append(scoring.Report(sure, comparison, runs, bootstrap, seed))
    return reports


def _protocol_of(paths: Sequence[str | Path]) -> str:
    """The protocol of the runs whose folders files are in, by their `config.yaml`; else strict."""
    from asr.scoring import protocol_names

    named: dict[str, Path] = {}
    for folder in (folder for path in paths for folder in [*Path(path).resolve().parents][:2]):
        config = folder / "config.yaml"
        if config.is_file():
            import yaml

            with suppress(yaml.YAMLError, LookupError, TypeError, ValueError, RecursionError):
                name = yaml.safe_load(config.read_bytes())["corpus"]["protocol"]
                named.setdefault(str(name), config)
    if len(named) > 1 or not named.keys() <= {*protocol_names()}:
        listed = ", ".join(f"{config}: corpus.protocol is {name}" for name, config in named.items())
        raise DataError(
            f"{listed}; expected one of {', '.join(protocol_names())}: choose it with --protocol"
        )
    return next(iter(named), "strict")


def _write(reports: "list[Report]", output: str | None, json: str | None, html: str | None) -> None:
    from asr.scoring import report_html, report_json, report_text

    as_text = report_text.report(reports)
    if output:
        with atomic_open(output) as file:
            file.write(as_text)
        lines = (report.score.line() for report in reports)
        as_text = "".join(f"{line}\n" for line in [*report_text.means(reports), *lines])
    if output or json == "-":  # which have no notes on the terminal
        for report in reports:
            for warning in report.warnings:
                print(f"warning: {report.score.hypothesis}: {warning}", file=sys.stderr)
    if html:
        with atomic_open(html) as file:
            file.write(report_html.page(reports))
    if json == "-":
        sys.stdout.writelines(report_json.pieces(reports))
        return
    if json:
        with atomic_open(json) as file:
            file.writelines(report_json.pieces(reports))
    sys.stdout.write(as_text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="asr score",
        description=(__doc__ or "").split("\n\n")[0],
        epilog=f"examples:\n{EXAMPLES}\nProtocols and the JSON output: docs/scoring.md.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    files = """manifest or hypotheses (.jsonl), sclite .trn, Kaldi text, ctm, stm, HTK's mlf, what
        `asr transcribe` writes, .phn or TextGrid: a file, or a folder; - is standard input"""
    add("reference", metavar="REF", help=files)
    add("hypotheses", metavar="HYP", nargs="+", help="the same; several are runs of one system")
    protocols = """strict, sil-optional, sil-merged, q-as-sil, collapsed, no-sil, arpabet, none,
        words (word error rate), or all others in one table (default: that of the run that HYP is
        in, or else strict)"""
    add("--protocol", metavar="NAME|all", help=protocols)
    scorer = "fewest errors, or the alignment of NIST sclite -s (default: levenshtein)"
    add("--scorer", default="levenshtein", choices=("levenshtein", "sclite"), help=scorer)
    formats = """format of both, or of REF and of HYP: jsonl, trn, text, ctm, stm, mlf, phn or
        textgrid (jsonl and text are also those of `asr transcribe`); detected if not given"""
    add("--format", metavar="NAME[,NAME]", help=formats)
    alphabets = """alphabet of both, or of REF and of HYP: ipa and xsampa (also without blanks
        between phones), arpabet or timit (in either letter case; arpabet with stress too);
        default: the labels that the protocol knows"""
    add("--symbols", metavar="NAME[,NAME]", help=alphabets)
    add("--tier", metavar="NAME", help="TextGrid tier of phones (default: the one named so)")
    add("--map", metavar="FILE", help="file to fold by: two columns, or Kaldi's 60-48-39")
    missing = "utterances without hypothesis: an error, or their phones count as deleted"
    add("--missing", default="error", choices=("error", "delete"), help=missing)
    add("--compare", metavar="HYP_B", help="test HYP against another system")
    samples = "number of bootstrap samples; 0: no intervals (default: 1000)"
    add("--bootstrap", type=int, default=1000, metavar="N", help=samples)
    add("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    add("--output", metavar="FILE", help="write the text report, and print only the %%PER line")
    add("--json", metavar="FILE|-", help="write JSON to FILE; - is standard output")
    add("--html", metavar="FILE", help="write an HTML report to FILE")
    add("--overwrite", action="store_true", help="replace these files if they are already there")
    return parser
