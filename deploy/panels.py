"""The panels of the dashboard: what a person wants first, first.

Queries are written with the catalog's names in braces, so none can ask for what does not exist.
"""

from dataclasses import dataclass

RATE = "$__rate_interval"
MODEL = 'offramp_model=~"$model"'
GREEN_TO_RED = ("green", "orange", "red")


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: queries with their legends; `steps` are values at which its colour changes."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    stacked: bool = False
    steps: tuple[float, ...] = ()
    colours: tuple[str, ...] = GREEN_TO_RED
    about: str = ""


def rate(name: str, by: str = "", extra: str = "") -> str:
    """Per second, summed over all but `by`."""
    group = f" by ({by})" if by else ""
    return f"sum{group} (rate({{{name}}}{{{MODEL}{extra}}}[{RATE}]))"


def quantile(share: float, name: str, by: str = "") -> str:
    """A quantile of a histogram."""
    keys = f"le, {by}" if by else "le"
    return (
        f"histogram_quantile({share}, sum by ({keys}) (rate({{{name}}}_bucket{{{MODEL}}}[{RATE}])))"
    )


def mean(name: str, by: str = "") -> str:
    """The mean of a histogram."""
    return f"{rate_of(name, 'sum', by)} / {rate_of(name, 'count', by)}"


def rate_of(name: str, series: str, by: str = "") -> str:
    """Per second, of a histogram's sum or count."""
    group = f" by ({by})" if by else ""
    return f"sum{group} (rate({{{name}}}_{series}{{{MODEL}}}[{RATE}]))"


def gauge(name: str, extra: str = "") -> str:
    """A gauge as it is."""
    return f"{{{name}}}{{{MODEL}{extra}}}"


ANSWERED = ', offramp_outcome="answered"'
TOTAL = "offramp.request.total.duration"
RUN, FULL = rate("offramp.layers.run"), rate("offramp.layers.full")
UNANSWERED = (
    f"({rate('offramp.rejections')} or vector(0)) + ({rate('offramp.failures')} or vector(0))"
)
EXITS = rate("offramp.exits", "offramp_exit")
CALLS = "rate({rpc.server.call.duration}_count"

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    ("At a glance", (
        Panel("Answers a second", ((rate("offramp.requests", extra=ANSWERED), ""),), "reqps",
              "stat", 4, 5),
        Panel("p50", ((quantile(0.5, TOTAL), ""),), "s", "stat", 4, 5),
        Panel("p99", ((quantile(0.99, TOTAL), ""),), "s", "stat", 4, 5, steps=(0.25, 1)),
        Panel("Layers saved", ((f"1 - {RUN} / {FULL}", ""),), "percentunit", "stat", 4, 5,
              about="Of the layers that full depth would have run."),
        Panel("Not answered", ((f"({UNANSWERED}) / {rate('offramp.requests')}", ""),),
              "percentunit", "stat", 4, 5, steps=(0.001, 0.01),
              about="Refused or failed, of all requests."),
        Panel("Drift", ((f"max({gauge('offramp.shadow.drift')})", ""),), "bool_yes_no", "stat",
              4, 5, steps=(1,), colours=("green", "red"),
              about="Whether early answers agree with full depth less often than promised."),
    )),
    ("Where they exit", (
        Panel("Share of answers by exit",
              ((f"{EXITS} / ignoring(offramp_exit) group_left {rate('offramp.exits')}",
                "exit {{offramp_exit}}"),), "percentunit", stacked=True),
        Panel("Why they left",
              ((rate("offramp.exits", "offramp_exit_reason"), "{{offramp_exit_reason}}"),),
              "reqps", stacked=True),
        Panel("Median confidence by exit",
              ((quantile(0.5, "offramp.exit.confidence", "offramp_exit"),
                "exit {{offramp_exit}}"),), "percentunit"),
        Panel("Layers a request", ((f"{RUN} / {rate('offramp.requests', extra=ANSWERED)}", "run"),
              (f"{FULL} / {rate('offramp.requests', extra=ANSWERED)}", "full depth"))),
        Panel("Layer speedup", ((f"{FULL} / {RUN}", ""),)),
        Panel("Answers a second by priority",
              ((rate("offramp.requests", "offramp_priority", ANSWERED),
                "{{offramp_priority}}"),), "reqps", stacked=True),
    )),
    ("Where the time goes", (
        Panel("From arrival to answer", tuple(
            (quantile(share, TOTAL), f"p{share * 100:g}") for share in (0.5, 0.9, 0.99)), "s"),
        Panel("Mean time by part", (
            (mean("offramp.request.tokenizer.duration"), "tokenizer"),
            (mean("offramp.request.queue.duration"), "queue"),
            (mean("offramp.request.compute.duration"), "compute")), "s", stacked=True),
        Panel("p99 by part", (
            (quantile(0.99, "offramp.request.tokenizer.duration"), "tokenizer"),
            (quantile(0.99, "offramp.request.queue.duration"), "queue"),
            (quantile(0.99, "offramp.request.compute.duration"), "compute")), "s"),
    )),
    ("How full it is", (
        Panel("Queue", ((gauge("offramp.queue.requests"), "requests"),
                        (gauge("offramp.queue.limit"), "limit"),
                        (gauge("offramp.queue.tokens"), "tokens"))),
        Panel("Slots", ((gauge("offramp.slots.used"), "used"),
                        (gauge("offramp.slots.limit"), "limit"))),
        Panel("Time to work off the queue", ((gauge("offramp.queue.drain.predicted"), ""),), "s",
              steps=(1, 5), about="Predicted; scale on this."),
    )),
    ("Steps", (
        Panel("Steps a second by stage",
              ((rate_of("offramp.step.duration", "count", "offramp_stage"),
                "stage {{offramp_stage}}"),), stacked=True),
        Panel("Mean time of a step by stage",
              ((mean("offramp.step.duration", "offramp_stage"), "stage {{offramp_stage}}"),), "s"),
        Panel("Mean fill of batches", ((mean("offramp.step.fill.rows"), "rows"),
                                       (mean("offramp.step.fill.tokens"), "tokens")),
              "percentunit"),
        Panel("Rows and tokens a second", ((rate("offramp.step.rows"), "rows"),
                                           (rate("offramp.step.tokens"), "tokens"))),
        Panel("Error of the cost model", ((quantile(0.5, "offramp.step.cost.error"), "p50"),
                                          (quantile(0.9, "offramp.step.cost.error"), "p90")),
              "percentunit"),
        Panel("Padding", ((rate("offramp.step.padding"), "tokens a second"),),
              about="To the next multiple of 8 on a CPU, to the next bucket on a GPU."),
    )),
    ("What is wrong", (
        Panel("Calls that did not end well",
              ((f'sum by (rpc_method, rpc_status_code, error_type) ({CALLS}'
                f'{{rpc_status_code!="OK"}}[{RATE}]))',
                "{{rpc_method}} {{rpc_status_code}} {{error_type}}"),), "reqps"),
        Panel("Refused, failed, invalid, given up", (
            (rate("offramp.rejections", "error_type"), "refused {{error_type}}"),
            (rate("offramp.failures", "error_type"), "failed {{error_type}}"),
            (f"sum by (error_type) (rate({{offramp.invalid}}[{RATE}]))", "invalid {{error_type}}"),
            (rate("offramp.cancellations", "offramp_cancel_reason"),
             "given up: {{offramp_cancel_reason}}")), "reqps"),
        Panel("Steps that failed", ((rate("offramp.step.failures", "offramp_stage"),
                                     "stage {{offramp_stage}}"),)),
        Panel("p99 of calls by method",
              ((f"histogram_quantile(0.99, sum by (le, rpc_method)"
                f" (rate({{rpc.server.call.duration}}_bucket[{RATE}])))", "{{rpc_method}}"),),
              "s"),
        Panel("Event loop lag", (
            (f"histogram_quantile(0.99, sum by (le) (rate({{offramp.event_loop.lag}}_bucket"
             f"[{RATE}])))", "p99"),), "s", steps=(0.05, 0.25)),
        Panel("Checkpoints read again",
              (("sum by (offramp_outcome) ({offramp.swaps}{" + MODEL + "})",
                "{{offramp_outcome}}"),), about="Since the start; SIGHUP asks for it."),
        Panel("Device memory", (("{offramp.device.memory.used}", "{{offramp_device}} used"),
                                ("{offramp.device.memory.limit}", "{{offramp_device}} limit")),
              "bytes"),
    )),
    ("Live accuracy", (
        Panel("Agreement with full depth, all requests", (
            (gauge("offramp.shadow.agreement.upper", ', offramp_exit="all"'), "upper"),
            (gauge("offramp.shadow.agreement", ', offramp_exit="all"'), "agreement"),
            (gauge("offramp.shadow.agreement.lower", ', offramp_exit="all"'), "lower"),
            (gauge("offramp.shadow.promise"), "promised")), "percentunit"),
        Panel("Agreement by exit",
              ((gauge("offramp.shadow.agreement", ', offramp_exit!="all"'),
                "exit {{offramp_exit}}"),), "percentunit"),
        Panel("Threshold in force", ((gauge("offramp.shadow.guard.threshold"), ""),)),
        Panel("Comparisons a second",
              ((rate("offramp.shadow.comparisons", "offramp_shadow_agrees"),
                "agrees: {{offramp_shadow_agrees}}"),), "reqps"),
        Panel("Waiting for idle time", ((gauge("offramp.shadow.waiting"), ""),)),
    )),
)  # fmt: skip
