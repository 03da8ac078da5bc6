"""A whole evaluation: all models on the same cases, told in a page."""

import math
import re
import xml.etree.ElementTree as ET
from datetime import timedelta
from html.parser import HTMLParser

import numpy as np
import pytest
from evaluation.made_split import ITEMS, KNOWN, candidates, split_of
from events.made import START

from mmrec.errors import UsageError
from mmrec.evaluation.baselines import ContentMean, ItemKNN, Popularity, RandomOrder, RecentPopularity
from mmrec.evaluation.cases import EvaluationCases
from mmrec.evaluation.evaluating import EvaluationProtocol, evaluate, fit
from mmrec.evaluation.metrics import single_target_metric
from mmrec.evaluation.model_metrics import latency
from mmrec.evaluation.ranking import rank_targets
from mmrec.evaluation.report import EvaluationPage, render
from mmrec.events.event import Event
from mmrec.events.splits import hold_out_items, hold_out_users

LEARNERS = (RandomOrder(), Popularity(), RecentPopularity(), ItemKNN(), ContentMean())
FEW = EvaluationProtocol(draws=100, known=(0, 1, 3))


def log(seed=0, users=30):
    """Users before and after the cutoff, each with six items of one third of the catalog."""
    rng = np.random.default_rng(seed)
    made = []
    for user in range(users):
        begin = int(rng.integers(0, 190))
        own = [item for item in range(len(ITEMS)) if item % 3 == user % 3 or item < 4]
        made += [
            Event(f"p{user}", ITEMS[item], "like", START + timedelta(minutes=begin + 5 * step))
            for step, item in enumerate(rng.permutation(own)[:6].tolist())
        ]
    return made


@pytest.fixture(scope="module")
def split():
    return split_of(log())


def test_all_models_answer_the_same_questions(split):
    items = candidates()
    models = fit(LEARNERS, split, items)
    found = evaluate(split, items, models, FEW)
    cases = EvaluationCases.of(split).answerable(items)
    assert [model.name for model in found.models] == list(models)
    assert (found.cases, found.users, found.items) == (len(cases), split.users, len(ITEMS))
    for model in found.models:
        ranked = rank_targets(models[model.name][0], cases, items)
        for metric, one in model.metrics.items():
            name, _, k = metric.partition("@")
            assert one.mean == pytest.approx(single_target_metric(name, int(k), ranked.above, ranked.tied).mean())
            assert one.low <= one.mean <= one.high
        assert sum(one.cases for one in model.by_history.values()) == len(cases)
        assert sum(one.cases for one in model.by_item.values()) == len(cases)
    base = found.models[2].metrics["ndcg@10"].mean
    means = {model.name: model.metrics["ndcg@10"].mean for model in found.models}
    for one in found.comparisons:
        assert one.difference.mean == pytest.approx(means[one.one] - base)
    assert [one.one for one in found.comparisons] == [name for name in models if name != "recent popularity"]
    assert all(adjusted >= one.p for one, adjusted in zip(found.comparisons, found.adjusted, strict=True))


def test_new_people_are_asked_with_what_is_known_of_them(split):
    items = candidates()
    found = evaluate(split, items, fit(LEARNERS, split, items), FEW)
    assert "came after the cutoff" in found.cold.how
    assert list(found.cold.values["item-kNN"]) == [0, 1, 3]
    newcomers = len(split.live) - len(split.train)
    assert found.cold.values["item-kNN"][0].users == newcomers
    held = hold_out_users(split, 0.3, seed=1)
    found = evaluate(held, items, fit(LEARNERS, held, items), FEW)
    assert "held out of training" in found.cold.how
    assert found.users == held.users < split.users


def test_items_held_out_are_told_apart(split):
    items = candidates()
    held = hold_out_items(split, KNOWN, 0.3, seed=1)
    found = evaluate(held, items, fit(LEARNERS, held, items), FEW)
    on_cold = int(np.isin(split.live.items[split.targets], held.cold_rows).sum())
    popular = found.models[1].cold_items
    assert popular["warm"].cases == found.cases - on_cold
    assert popular["cold in the full catalog"].cases == popular["cold among cold"].cases == on_cold
    # Of items that nobody met, popularity cannot tell one from another: chance among those not met.
    fewest, most = (
        sum(1 / np.log2(place + 2) for place in range(min(10, count))) / count for count in (len(held.cold_rows), 1)
    )
    assert fewest <= popular["cold among cold"].mean <= most
    shown = {model.name: model.by_item.get("0") for model in found.models}
    assert shown["popularity"].cases >= on_cold


def test_one_list_for_all_that_follows(split):
    items = candidates()
    models = fit(LEARNERS, split, items)
    found = evaluate(split, items, models, FEW)
    cases = EvaluationCases.of(split).answerable(items)
    for model in found.models:
        hits, recalls = [], []
        for user in np.unique(cases.users):
            own = cases.take(cases.users == user)
            start, stop = own.starts[0], own.targets.min()
            histories, now = own.take(np.array([0])).histories([0]), split.live.times[[stop]]
            assert len(histories[0]) == stop - start
            scores = models[model.name][0].scores(histories, now)[0].astype(np.float64)
            scores[split.live.items[start:stop]] = -np.inf
            wanted = split.live.items[own.targets]
            ranks = [(scores > scores[item]).sum() + ((scores == scores[item]).sum() + 1) / 2 for item in wanted]
            hits.append(min(ranks) <= 10)
            recalls.append(np.mean([rank <= 10 for rank in ranks]))
        assert model.list_metrics["hr@10"].mean == pytest.approx(np.mean(hits))
        assert model.list_metrics["recall@10"].mean == pytest.approx(np.mean(recalls))
        assert model.list_metrics["map@10"].users == found.users


def test_several_seeds_are_averaged(split):
    items = candidates()
    runs = [RandomOrder(seed).fit(split.train, items) for seed in range(3)]
    models = {"random": runs, **fit([RecentPopularity()], split, items)}
    found = evaluate(split, items, models, FEW)
    alone = [evaluate(split, items, models | {"random": [run]}, FEW).models[0].metrics["hr@5"].mean for run in runs]
    assert len(set(alone)) > 1
    assert found.models[0].metrics["hr@5"].mean == pytest.approx(np.mean(alone))
    assert found.models[0].seeds == 3


def test_some_people_can_be_asked_for_all(split):
    items = candidates()
    models = fit(LEARNERS, split, items)
    some = evaluate(split, items, models, EvaluationProtocol(draws=100, known=(0, 1), most_users=5))
    assert (some.users, some.all_users, some.items) == (5, split.users, len(ITEMS))
    again = evaluate(split, items, models, EvaluationProtocol(draws=100, known=(0, 1), most_users=5))
    assert [one.metrics for one in some.models] == [one.metrics for one in again.models]
    assert some.cold.values["popularity"][0].users <= 5
    cases = EvaluationCases.of(split).answerable(items)
    drawn = cases.sample_users(5)
    kept = np.isin(cases.users, drawn.users)
    assert drawn.targets.tolist() == cases.targets[kept].tolist(), "a user is asked all or nothing"
    assert len(cases.sample_users(10**6)) == len(cases)
    with pytest.raises(UsageError, match="1 or more"):
        EvaluationProtocol(most_users=0)


def test_the_wait_is_told_by_percentiles(split):
    scorer = fit([ItemKNN()], split, candidates())["item-kNN"][0]
    cases = EvaluationCases.of(split)
    took = latency(scorer, cases, count=30)
    assert 0 < took.p50 <= took.p95 <= took.p99
    assert math.isnan(latency(scorer, cases.take(np.zeros(len(cases), dtype=bool))).p50)


def test_what_cannot_be_evaluated_is_told(split):
    items = candidates()
    models = fit(LEARNERS, split, items)
    with pytest.raises(UsageError, match="no model 'recent popularity'"):
        evaluate(split, items, {"random": models["random"]}, FEW)
    with pytest.raises(UsageError, match="is not measured"):
        EvaluationProtocol(chosen="auc@10")
    empty = split_of([])
    with pytest.raises(UsageError, match="Of 0 events to predict none can be"):
        evaluate(empty, items, fit(LEARNERS, empty, items), FEW)


class Outside(HTMLParser):
    """Collects whatever a page would fetch or run."""

    def __init__(self):
        super().__init__()
        self.found, self.ids = [], []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if (name in {"src", "href", "xlink:href"} and not value.startswith("#")) or name.startswith("on"):
                self.found.append(value)
        if tag in {"script", "link", "img", "iframe"}:
            self.found.append(tag)


def test_the_page_stands_alone_and_tells_all(split):
    items = candidates()
    models = fit(LEARNERS, split, items)
    models["<b>Tower</b> $x$ & co"] = models.pop("content mean")
    found = evaluate(split, items, models, FEW)
    curves = {"MMR": [(0.2, 0.1), (0.4, 0.09)]}
    report = EvaluationPage("Shop & <more>", found, {"split": "by time"}, {"tower": [3.0, 2.0]}, curves)
    page = render(report)
    assert page == render(report)
    assert ">MMR<" in page
    seen = Outside()
    seen.feed(page)
    assert seen.found == []
    assert len(seen.ids) == len(set(seen.ids)), "two charts share an id, and a browser draws one's parts in the other"
    assert "Shop &amp; &lt;more&gt;" in page
    assert "<b>Tower</b>" not in page
    drawings = re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 8
    for drawing in drawings:
        ET.fromstring(drawing)  # noqa: S314 - drawn here
        assert not re.search(r"#0[1-4]0[0-9a-f]{3}\b", drawing), "a colour that stands for the page's is left"
    used = set(re.findall(r"var\((--\w+)\)", page))
    assert used <= set(re.findall(r"(--\w+):", page))
    for number in re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", page):
        assert (number[0] or number[1]) in seen.ids
    for model in found.models:
        assert page.count(f"{model.metrics['ndcg@10'].mean:.4f}".lstrip("0")) >= 1
