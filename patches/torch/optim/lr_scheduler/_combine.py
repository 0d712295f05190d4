"""Schedules made of schedules."""

from bisect import bisect_right

from ._base import LRScheduler, set_lr


def _check_same_optimizer(name, schedulers, optimizer):
    if not schedulers:
        raise ValueError(f"{name} expects at least one scheduler to be chained, but got no scheduler.")
    for i, scheduler in enumerate(schedulers):
        if not hasattr(scheduler, "optimizer"):
            raise TypeError(f"{name}: scheduler {i} ({type(scheduler).__name__}) has no optimizer")
        if scheduler.optimizer is not optimizer:
            raise ValueError(
                f"{name} expects all schedulers to belong to the same optimizer, but scheduler {i} does not")


class _Combined(LRScheduler):
    def state_dict(self):
        """As in the base class, with the state of every inner schedule in a list."""
        state = {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "_schedulers")}
        state["_schedulers"] = [scheduler.state_dict() for scheduler in self._schedulers]
        return state

    def load_state_dict(self, state_dict):
        """Restore this schedule and the inner ones."""
        state_dict = dict(state_dict)
        inner = state_dict.pop("_schedulers")
        self.__dict__.update(state_dict)
        for scheduler, state in zip(self._schedulers, inner):
            scheduler.load_state_dict(state)


    def _initial_step(self):
        for scheduler in self._schedulers:
            scheduler._initial_step()
        self._last_lr = self._current()

    def _advance(self, epoch):
        if epoch is None:
            self.step()
            return
        for scheduler in self._schedulers:
            scheduler._advance(epoch)
        self._last_lr = self._current()


class SequentialLR(_Combined):
    """One schedule after the other: the i-th starts, at its own step 0, at step ``milestones[i - 1]``."""

    def __init__(self, optimizer, schedulers, milestones, last_epoch=-1, verbose="deprecated"):
        _check_same_optimizer("SequentialLR", schedulers, optimizer)
        for scheduler in schedulers:
            if getattr(scheduler, "step", None) is None or hasattr(scheduler, "mode_worse"):
                raise ValueError("SequentialLR does not support `ReduceLROnPlateau`: its step needs a metric")
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                "Sequential Schedulers expects number of schedulers provided to be one more than the number of "
                f"milestone points, but got number of schedulers {len(schedulers)} and the number of milestones "
                f"{len(milestones)}")
        self._schedulers = schedulers
        self._milestones = milestones
        self.last_epoch = last_epoch + 1
        self.optimizer = optimizer
        # Each inner schedule took its first step when it was made: undo that, then take the first one's again.
        for group in optimizer.param_groups:
            set_lr(group, group["initial_lr"])
        for scheduler in schedulers:
            for part in _parts(scheduler):
                part.last_epoch -= 1
        schedulers[0]._initial_step()
        self._last_lr = schedulers[0].get_last_lr()

    def _initial_step(self):
        self._schedulers[0]._initial_step()
        self._last_lr = self._schedulers[0].get_last_lr()

    def _advance(self, epoch):
        if epoch is None:
            self.step()
            return
        if epoch != 0:
            raise NotImplementedError("SequentialLR can only be restarted at step 0")
        self.last_epoch = 0
        self._schedulers[0]._advance(0)
        self._last_lr = self._schedulers[0].get_last_lr()

    def step(self):
        """Go to the next step."""
        self.last_epoch += 1
        index = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[index]
        if index > 0 and self._milestones[index - 1] == self.last_epoch:
            scheduler._advance(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


def _parts(scheduler):
    inner = getattr(scheduler, "_schedulers", None)
    if inner is None:
        return [scheduler]
    return [part for child in inner for part in _parts(child)]


class ChainedScheduler(_Combined):
    """All schedules stepped together, each working on the rate the one before it left."""

    def __init__(self, schedulers, optimizer=None):
        schedulers = list(schedulers)
        if not schedulers:
            raise ValueError("ChainedScheduler expects at least one scheduler to be chained, but got no scheduler.")
        optimizer = optimizer if optimizer is not None else schedulers[0].optimizer
        _check_same_optimizer("ChainedScheduler", schedulers, optimizer)
        self._schedulers = schedulers
        self.optimizer = optimizer
        self._last_lr = self._current()

    def step(self):
        """Step every schedule once."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._current()
