// SPDX-License-Identifier: Apache-2.0
// The methods of the control socket and their JSON. Programs can rely on the keys listed here;
// objects can have more.
//
// workload object (method workloads):
//   {"name": "x.scope", "kind": "process|container|unit",
//    "labels": {"app": "web", "zone": "eu"},
//    "host_labels": ["zone"] (keys of labels that come from [host]; absent if there are none),
//    "identity": 17, "state": "enforced|quarantined|unenforced", "reason": "",
//    "cgroup": "/trireme.slice/x.scope", "container": "<64 hex digits, or empty>",
//    "network": "host|own|shared", or null while it is not known,
//    "warnings": ["CAP_NET_ADMIN: ..."]}
#pragma once

namespace trireme::control::method {

/// params {} -> {"version": "0.1.0", "mode": "enforce|audit", "uptime_seconds": 12,
///   "policy": {"directory": "/etc/trireme", "generation": 3, "digest": "<64 hex digits>",
///              "rules": 2, "loaded": "2026-01-31T12:00:00Z",
///              "errors": ["policy.toml:1:1: ..."], "warnings": []},
///   "workloads": {"enforced": 1, "quarantined": 0, "unenforced": 0},
///   "sources": {"docker": "connected, 2 containers", "units": "..."},
///   "tokens": {"queues": "the kernel's queue mechanism as text, or none", "threads": 2,
///              "credential": "certificate of web-1 by CN=fleet, until 2027-01-01",
///              "expires": "2027-01-01T00:00:00Z", or null,
///              "peers": ["10.0.0.0/8"], "enforcement_points": 1, "peer_identities": 0},
///   "gate": {"refused": {"policy": 3, "...": 0}, "audited": 0,
///            "births": {"quarantined": "always|while_running|absent|off",
///                       "reason": "why it is not always"}},
///   "cgroup_driver": "systemd|cgroupfs",
///   "problems": ["something that keeps the daemon from working fully"]}
/// "errors" are those of the last load; while there are any, an older generation stays in force.
/// "births" says whether the kernel quarantines new containers before their first instruction.
/// Root only.
inline constexpr const char* status = "status";

/// params {"examine": true} -> [workload object, ...] sorted by name. With "examine": false, the
/// warnings are those of the last request that examined the workloads. Root only.
inline constexpr const char* workloads = "workloads";

/// params {} -> {"generation": 4, "rules": 2, "warnings": []}. If the files are invalid, it changes
/// nothing and returns an error whose message has every diagnostic, one per line. Root only.
inline constexpr const char* reload = "reload";

/// params {"from": "app=web,env=prod", "to": "@corp-dns", "port": "udp/53"} -> the JSON of
/// control::explain(). An endpoint is the name of a workload, a list of labels, an entity (@host,
/// @world, @NAME of a network) or an address. Root only.
inline constexpr const char* explain = "explain";

/// params {"labels": ["app=web"], "properties": ["MemoryMax=1G"], "unit": "NAME, or empty",
/// "changes_user": false}
/// -> {"name": "x.scope", "cgroup": "/trireme.slice/x.scope"} once the calling process is in that
/// cgroup and the kernel enforces policy on it. "changes_user": the caller will change its uid or
/// gid before it runs the command. Any user; the handler checks the [[launch]] grants.
inline constexpr const char* launch = "launch";

/// params {"unit": "postgresql@14-main.service"} -> {"state": "enforced"} once policy is enforced
/// on the unit's cgroup, or if no [[unit]] entry matches the unit any more; else an error. Called
/// by `trirectl unit-gate` in the unit's ExecCondition=. If systemd has kept sockets of an earlier
/// run of the unit, the result has "kept": [inode numbers]. The caller then repeats the request
/// with "alone": [inode numbers], the kept sockets that no process but PID 1 has open; these become
/// the unit's. Root only.
inline constexpr const char* unit_gate = "unit-gate";

/// params {"follow": true, "limit": 100, "summary": false, "all": false, and the keys of FlowFilter::parse()} ->
/// events, each a flow: the newest "limit" flows, oldest first. With "follow", each new flow
/// follows as it happens, and there is no result. Without, the result is
/// {"count": 100, "left_out": 0}.
///   {"time": "2026-01-31T12:00:00.123456Z", "verdict": "allow|deny|audit",
///    "source": {"labels": {...}, "workload": "x.scope", "address": "127.0.0.1"},
///    "destination": {"entity": "@host", "address": "..."}, "protocol": "tcp", "port": 80,
///    "rule": "allow 'web to db' (policy.toml:12:1)", "reason": "no rule allows it",
///    "cause": "one word for programs; absent if there is none", "sampled": true}
/// With "all", allowed flows too, as far as the kernel has reported them: those have "sampled", and
/// each pair of endpoints and port is reported at most once a minute.
/// An endpoint has "labels" and "workload", or "quarantined": true, or "entity"; "address" if it is
/// known. With "summary", each event is a group of identical flows, the largest group first, with
/// "count", "first" (the time of the oldest) and "time" (of the newest). Groups reach further back
/// than single flows. Root only.
inline constexpr const char* flows = "flows";

/// params {"limit": 100, and the keys of FlowFilter::parse()} -> {"flows": 12, "unknown": 0,
/// "complete": true, "left_out": 0, "connections": [a flow as above with "count", ...]}: the open
/// connections of workloads, without TCP connections that both sides have closed. Identical ones
/// are one entry, the most frequent first. "left_out": entries that match but exceed the limit.
/// "unknown": audited connections whose endpoints are not known any more, because their report is
/// no longer in the flow log. "complete" is false if there are more kinds of connection than the
/// daemon counts. Root only.
inline constexpr const char* connections = "connections";

/// params {} -> {"directory": "/etc/trireme", "generation": 3, "digest": "<64 hex digits>",
/// "mode": "enforce|audit", "sources": [{"file": "policy.toml", "content": "..."}]}: the files of
/// the policy in force, as they were read. Root only.
inline constexpr const char* policy = "policy";

/// params {} -> [{"rule": "allow 'web to db' (policy.toml:12:1)", "name": "web to db",
///   "action": "allow|deny", "mode": "enforce|audit", "file": "policy.toml", "line": 12,
///   "hits": 3, "last": "2026-01-31T12:00:00Z" or null, "since": "2026-01-31T11:00:00Z"}, ...]:
/// how many of the flows that were reported (method flows, with "all") each rule has decided since
/// "since", in the order of the files; the last two lines, "baseline" and "no rule", have no
/// "name", "action", "mode", "file" and "line". Root only.
inline constexpr const char* rules = "rules";

/// params {} -> {"workloads": [...], "labels": ["app=web"], "networks": ["@dns"]}: the words that
/// shell completion offers. Root only.
inline constexpr const char* words = "words";

/// params {} -> {"text": "Prometheus exposition format"}. Root only.
inline constexpr const char* metrics = "metrics";

}  // namespace trireme::control::method
