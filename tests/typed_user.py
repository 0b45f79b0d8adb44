"""A user's script that calls every public function: it only has to type-check against the package, strictly."""

from pathlib import Path

import segkit


def prepare(root: Path) -> segkit.Dataset:
    """Datasets."""
    calls = segkit.extract("stereo", root / "calls", root / "calls-segments", settings={"pause.tau_min_s": 3})
    settings = segkit.ExtractionSettings(per_axis=100, rate_hz=None)
    made = segkit.extract("synthetic", output=str(root / "made"), settings=settings, options={"hours": 0.1}, workers=2)
    both = segkit.merge([calls, root / "made"], root / "both")
    print(made, both.axes, both.splits, len(both), both.has_audio, both.record.segments["pause"].kept)
    segment = both.segment("turn_taking")
    peak: float = abs(segment.user).max() + abs(segment.agent).max()
    print(peak, segment.rate_hz, segment["gap_s"], both.table("pause", "train").num_rows, both.annotations().num_rows)
    print(both.to_pandas()["duration_s"].sum(), [one.hours for one in both.statistics()])
    print([terms.licence for terms in both.terms()])
    for one in both:
        print(one["id"], one.context_samples)
    return segkit.open_dataset(both.path)


def train(dataset: segkit.Dataset, root: Path) -> segkit.Run:
    """A run."""

    def hook(stage: str, done: int, total: int, facts: object = None) -> None:
        print(stage, done, total)

    settings = segkit.AlignSettings.preset("nano").changed({"steps": 3, "rewards.response": "onset"})
    run = segkit.align(dataset, root / "run", policy="nano", settings=settings, device="cpu")
    run = segkit.align(dataset.path, root / "run", settings={"steps": 3}, preset="nano", resume=True)
    print(run.metrics["kl"].max(), run.samples[0].reward, run.settings.steps, run.export, run.evaluations)
    return segkit.open_run(run.path)


def speak(run: segkit.Run) -> None:
    """Models."""
    speaker = segkit.open_model("nano", sampling=segkit.SamplingSettings(audio_top_k=0, opening_s=0))
    print(speaker.rate_hz, speaker.frame_samples, speaker.prologue.heard.shape)
    trainable = segkit.open_model(str(run.export), training=True, model=segkit.ModelSettings(lora_rank=4), device="cpu")
    print(sum(weights.numel() for weights in trainable.parameters().values()), trainable.export(Path("out")))


def share(dataset: segkit.Dataset) -> Path:
    """Pages and the Hub."""
    try:
        sent = segkit.publish(dataset.path, "me/turns", annotations_only=True, dry_run=True)
        print(sent.url, sent.files)
    except segkit.UsageError as error:
        print(error)
    rebuilt = segkit.hydrate("me/turns", "/data/fisher", "turns", corpus="fisher")
    print(segkit.Axis.PAUSE in rebuilt.axes, segkit.RewardSettings().unit)
    return segkit.report(rebuilt, "report.html", per_axis=3)
