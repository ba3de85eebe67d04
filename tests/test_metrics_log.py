from vision_train.metrics_log import MetricsLog, read_metrics


def test_lines_come_back_in_order(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append("fit", 0, 5, {"train/loss": 1.5})
    log.append("fit", 0, 10, {"val/accuracy": 0.25})
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["phase"], line["step"]) for line in lines] == [("fit", 5), ("fit", 10)]
    assert lines[0]["train/loss"] == 1.5


def test_an_absent_log_is_empty(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_a_line_cut_off_in_the_writing_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).append("fit", 0, 5, {"train/loss": 1.5})
    with path.open("a") as file:
        file.write('{"phase": "fit", "ep')
    assert len(read_metrics(path)) == 1


def test_steps_repeated_after_a_resumption_replace_the_lost_ones(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append("pretrain", 9, 100, {"train/loss": 0.1})
    for step in (1, 2, 3, 4):
        log.append("fit", step // 2, step, {"train/loss": float(step)})
    log.note_resumption("fit", 1, 2)
    log.append("fit", 1, 3, {"train/loss": 30.0})
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["step"], line["train/loss"]) for line in lines] == [(100, 0.1), (1, 1.0), (2, 2.0), (3, 30.0)]


def test_a_line_cut_off_does_not_swallow_the_note_of_the_resumption(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        log.append("fit", 0, step, {"train/loss": float(step)})
    with log.path.open("a") as file:
        file.write('{"phase": "fit", "ep')
    log.note_resumption("fit", 0, 1)
    log.append("fit", 0, 2, {"train/loss": 20.0})
    assert [line["train/loss"] for line in read_metrics(log.path)] == [1.0, 20.0]


def test_values_that_are_not_finite_become_null(tmp_path):
    MetricsLog(tmp_path / "metrics.jsonl").append("fit", 0, 1, {"train/loss": float("nan")})
    assert read_metrics(tmp_path / "metrics.jsonl")[0]["train/loss"] is None


def test_time_goes_on_from_an_earlier_process(tmp_path):
    MetricsLog(tmp_path / "metrics.jsonl", seconds_before=100.0).append("fit", 0, 1, {})
    assert read_metrics(tmp_path / "metrics.jsonl")[0]["time"] >= 100.0
