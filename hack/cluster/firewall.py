"""Which of the machine's firewall rules are the cluster's, and what takes those away and nothing else. Pure: the text
of iptables-save in, input for `iptables-restore --noflush` out.

The names prove little: KUBE- chains are called the same by every kubelet and kube-proxy, and the CNI plugins make CNI-
chains for podman as well. So the chains that were there before the cluster are remembered, and a CNI chain is ours only
where its rules name our network.
"""

import re
from dataclasses import dataclass
from enum import Enum

from hack.cluster import layout as at

Chains = frozenset[tuple[str, str]]  # (table, chain)

_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_JUMPS = {"-j", "-g", "--jump", "--goto"}
_OUR_NETWORK = rf"name: \"{at.CNI_NETWORK}\""
_OUR_API_SERVER = f"{at.NODE_IP}:{at.API_PORT}"
# The portmap plugin's chains for all networks: one with a jump per container, the others without any name in them.
_SHARED = "CNI-HOSTPORT-"
_HOST_PORTS = "CNI-HOSTPORT-DNAT"


class Proxy(Enum):
    """Whose services the KUBE- chains lead to."""

    NOBODY = "nobody"
    OURS = "ours"
    ANOTHER = "another"
    UNKNOWN = "unknown"  # services, but none of an API server


@dataclass(frozen=True, slots=True)
class Rule:
    table: str
    chain: str
    target: str
    text: str  # the line, -A CHAIN and all

    @property
    def names_us(self) -> bool:
        return _OUR_NETWORK in self.text


@dataclass(frozen=True, slots=True)
class _Saved:
    chains: Chains
    rules: tuple[Rule, ...]


def _parse(saved: str) -> _Saved:
    table, chains, rules = "", set(), []
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            chains.add((table, line[1:].split()[0]))
        elif line.startswith("-A "):
            words = _QUOTED.sub('""', line).split()  # a comment may hold anything
            jumps = [words[i + 1] for i, word in enumerate(words[:-1]) if word in _JUMPS]
            rules.append(Rule(table, words[1], jumps[0] if jumps else "", line))
    return _Saved(frozenset(chains), tuple(rules))


def known(saved: str) -> Chains:
    """The chains of kubelets, kube-proxies and CNI plugins, whoever's they are."""
    return frozenset(pair for pair in _parse(saved).chains if pair[1].startswith(("KUBE-", "CNI-")))


def proxy(saved: str) -> Proxy:
    """Read off the IPv4 rules. The API server's own service is in every cluster, and its endpoint is the proof."""
    rules = _parse(saved).rules
    services = [rule for rule in rules if rule.chain == "KUBE-SERVICES" and rule.target != "KUBE-NODEPORTS"]
    endpoints = {
        match[1]
        for rule in rules
        if rule.chain.startswith("KUBE-SEP-") and "default/kubernetes:https" in rule.text
        if (match := re.search(r"--to-destination (\S+)", rule.text)) is not None
    }
    if endpoints:
        return Proxy.OURS if endpoints == {_OUR_API_SERVER} else Proxy.ANOTHER
    return Proxy.UNKNOWN if services else Proxy.NOBODY


def of_others(saved: str, whose: Proxy, before: Chains | None) -> tuple[Chains, Chains]:
    """The chains of shared names that have to stay, and those among them of which that is only a guess.

    `before`: what was there before the cluster; None when nobody remembered.
    """
    shared = {pair for pair in known(saved) if pair[1].startswith(("KUBE-", _SHARED))}
    kube = {pair for pair in shared if pair[1].startswith("KUBE-")}
    if before is None:
        doubtful = shared - kube if whose is Proxy.OURS else shared
    else:
        # Another kube-proxy that came later has rewritten what ours had made.
        doubtful = kube - before if whose is Proxy.ANOTHER else set()
    return (before or frozenset()) | doubtful, frozenset(doubtful)


def removal(saved: str, others: Chains) -> str:
    """Takes our chains away, the jumps to them and the rules that name our network. Empty when none is there.

    `others`: chains of shared names that have to stay, from `of_others`.
    """
    whole = _parse(saved)
    ours = _our_kube_chains(whole, others) | _our_cni_chains(whole, others)
    out = []
    for table in sorted({table for table, _ in whole.chains}):
        chains = sorted(chain for place, chain in ours if place == table)
        rules = [
            rule.text.replace("-A", "-D", 1)
            for rule in whole.rules
            if rule.table == table and (table, rule.chain) not in ours
            if (table, rule.target) in ours or rule.names_us
        ]
        if chains or rules:
            # Declaring a chain empties it, so that none is in use any more when it goes.
            emptied, removed = [f":{chain} - [0:0]" for chain in chains], [f"-X {chain}" for chain in chains]
            out += [f"*{table}", *emptied, *rules, *removed, "COMMIT"]
    return "".join(f"{line}\n" for line in out)


def _our_kube_chains(whole: _Saved, others: Chains) -> Chains:
    return frozenset(pair for pair in whole.chains - others if pair[1].startswith("KUBE-"))


def _our_cni_chains(whole: _Saved, others: Chains) -> Chains:
    rules: dict[tuple[str, str], list[Rule]] = {}
    for rule in whole.rules:
        rules.setdefault((rule.table, rule.chain), []).append(rule)
    cni = {pair for pair in whole.chains if pair[1].startswith("CNI-")}
    shared = {pair for pair in cni if pair[1].startswith(_SHARED)}
    led_to = {(rule.table, rule.target) for rule in whole.rules if rule.names_us}
    speak_of_us = {pair for pair, its in rules.items() if pair in cni and all(rule.names_us for rule in its)}
    idle = {pair for pair in shared if all(rule.names_us for rule in rules.get((pair[0], _HOST_PORTS), []))}
    return frozenset(((cni & led_to) | speak_of_us) - shared | (idle - others))
