import numpy as np
import pytest

from crackflow.core.config.training import Optimization, Optimizer, Schedule
from crackflow.training import schedules


def rates(kind, total=110, warmup=10, **settings):
    rate = schedules.ScheduledRate(kind, 0.5, total, warmup, **settings)
    return np.array([float(rate(step)) for step in range(total + 1)])


def test_the_cosine_climbs_to_its_peak_and_falls_to_nothing():
    curve = rates(Schedule.COSINE)
    assert curve[9] == pytest.approx(0.5)
    assert (np.diff(curve[:10]) > 0).all() and (np.diff(curve[10:]) < 0).all()
    assert curve[60] == pytest.approx(0.25)
    assert curve[110] == pytest.approx(0, abs=1e-6)


def test_one_cycle_climbs_for_three_tenths_from_a_twenty_fifth():
    curve = rates(Schedule.ONE_CYCLE, total=100, warmup=0)
    assert curve[0] == pytest.approx(0.5 / 25)
    assert curve[30] == pytest.approx(0.5) == curve.max()
    assert curve[15] == pytest.approx((0.5 + 0.02) / 2)
    assert curve[65] == pytest.approx(0.25) and curve[100] == pytest.approx(0, abs=1e-6)


def test_piecewise_leaves_a_tenth_after_each_drop():
    curve = rates(Schedule.PIECEWISE, total=100, warmup=0, drops=(0.5, 0.75))
    assert curve[49] == pytest.approx(0.5)
    assert curve[50] == curve[74] == pytest.approx(0.05)
    assert curve[75] == curve[100] == pytest.approx(0.005)


def test_constant_stays_at_the_peak_after_the_warm_up():
    curve = rates(Schedule.CONSTANT)
    assert curve[0] == pytest.approx(0.05)
    assert set(curve[10:]) == {0.5}


@pytest.mark.parametrize("kind", Schedule)
def test_without_warm_up_nothing_climbs_but_one_cycle(kind):
    assert rates(kind, total=10, warmup=0)[0] == pytest.approx(0.02 if kind is Schedule.ONE_CYCLE else 0.5)


@pytest.mark.parametrize("kind", Schedule)
def test_a_schedule_of_one_step_is_a_number(kind):
    assert np.isfinite(rates(kind, total=1, warmup=0)).all()


@pytest.mark.parametrize("optimizer, expected", [(Optimizer.SGD, 0.4), (Optimizer.ADAMW, 0.2), (Optimizer.LAMB, 0.2)])
def test_the_rate_follows_the_batch_size(optimizer, expected):
    settings = Optimization(optimizer=optimizer, learning_rate=0.1, rate_batch=64)
    assert schedules.peak(settings, 256) == pytest.approx(expected)
    assert schedules.peak(settings, 64) == 0.1


def test_a_rate_meant_for_any_batch_stays():
    assert schedules.peak(Optimization(learning_rate=0.1, rate_batch=0), 256) == 0.1


def test_a_schedule_is_made_again_from_its_settings():
    rate = schedules.ScheduledRate(Schedule.PIECEWISE, 0.5, 100, 10, (0.5,))
    again = schedules.ScheduledRate.from_config(rate.get_config())
    assert [float(again(step)) for step in (0, 20, 70)] == [float(rate(step)) for step in (0, 20, 70)]


def test_a_multiple_is_a_multiple_everywhere():
    rate = schedules.ScheduledRate(Schedule.COSINE, 0.5, 100, 10)
    assert float(rate.times(0.02).times(0.5)(40)) == pytest.approx(float(rate(40)) * 0.01)
