"""hidden_kernel_module: modules that are in the kernel but not everywhere where modules are listed.

The kernel knows its modules in three places: the list behind /proc/modules, the set behind /sys/module and the tree
by which it finds the module of an address. What hides takes itself out of one or two of them. A module that is
being loaded or removed is in some of them for a moment only; it is left alone.
"""

from __future__ import annotations

from sys import byteorder
from time import sleep

from bfer.derive import fields
from bfer.derive.source import Once, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from bfer.catalogue import Event
    from bfer.derive.kernel import Kernel
    from bfer.pushdown import Plan

_LIVE = 0  # enum module_state, include/linux/module.h
_MAX = 4096  # modules, and steps of a walk
_MOMENT = 0.02


class Modules(Source):
    NEEDS = ("modules",)
    interval = 10.0

    def __init__(self, events: list[Event], kernel: Kernel, plan: Plan) -> None:
        super().__init__(events, kernel, plan)
        self._list = kernel.symbol("modules")
        more = kernel.symbols(("module_kset", "mod_tree"))
        self._kset = more.get("module_kset", 0)
        self._tree = more.get("mod_tree", 0) if kernel.layout.has_tree else 0
        self._once = Once()

    def look(self) -> list[tuple[Event, bytes]]:
        hidden = self.hidden()
        if hidden:  # in the middle of a walk a module may have come or gone
            sleep(_MOMENT)
            hidden &= self.hidden()
        layout = self.kernel.layout
        told = []
        for module in sorted(hidden):
            if self._once.is_new(module):
                version = self.kernel.word(module + layout.module_srcversion)
                texts = (
                    f"{module:#x}",
                    self.kernel.string(module + layout.module_name, 56),
                    self.kernel.string(version) if version else "",
                )
                data = b"".join([fields.text(slot, text) for slot, text in enumerate(texts)])
                told += [(event, data) for event in self.events.values()]
        self._once.forget(set(hidden))
        return told

    def hidden(self) -> set[int]:
        """Addresses of live modules that are missing somewhere."""
        places = [set(self.listed())]
        if self._kset:
            places.append(set(self.in_sysfs()))
        if self._tree:
            places.append(set(self.in_tree()))
        everywhere = set.intersection(*places)
        return {module for module in set.union(*places) - everywhere if self._is_live(module)}

    def _is_live(self, module: int) -> bool:
        data = self.kernel.read(module, 4)  # the state is the first member
        return bool(data) and int.from_bytes(data, byteorder) == _LIVE

    def listed(self) -> Iterator[int]:
        for at in self.kernel.chain(self._list):
            yield at - self.kernel.layout.module_list

    def in_sysfs(self) -> Iterator[int]:
        layout = self.kernel.layout
        for at in self.kernel.chain(self.kernel.word(self._kset) + layout.kset_list):
            module = self.kernel.word(at - layout.kobject_entry - layout.mkobj_kobj + layout.mkobj_mod)
            if module:  # there are entries for what is built in, too
                yield module

    def in_tree(self) -> Iterator[int]:
        """Every area of memory of a module is a node of the tree, so that it may come more than once."""
        layout = self.kernel.layout
        left = [self.kernel.word(self._tree + layout.tree_roots)]
        for _ in range(_MAX):
            if not left:
                return
            node = left.pop()
            if node:
                yield self.kernel.word(node - layout.tree_node)
                left += [self.kernel.word(node + 8), self.kernel.word(node + 16)]  # struct rb_node: right, left


SOURCE = Modules
