// SPDX-License-Identifier: Apache-2.0
// The methods of the control socket and their JSON. Programs may rely on what is listed; more keys
// may be there.
//
// workload object (methods workloads and explain):
//   {"name": "x.scope", "kind": "process|container|unit", "labels": {"app": "web", "zone": "eu"},
//   "host_labels": ["zone"] (keys of [host] labels; absent where there are none), "identity": 17,
//   "state": "enforced|quarantined|unenforced",
//    "reason": "", "cgroup": "/trireme.slice/x.scope", "container": "<64 hex digits, or empty>",
//    "network": "host|own|shared", or null where that is not known yet, "warnings":
//    ["CAP_NET_ADMIN: ..."]}
#pragma once

namespace trireme::control::method {

/// params {} -> {"version": "0.1.0", "mode": "enforce|audit", "uptime_seconds": 12,
///   "policy": {"directory": "/etc/trireme", "generation": 3, "rules": 2, "loaded":
///   "2026-01-31T12:00:00Z", "errors": ["policy.toml:1:1:
///   ..."],
///              "warnings": []},
///   "workloads": {"enforced": 1, "quarantined": 0, "unenforced": 0},
///   "sources": {"docker": "connected, 2 containers", "units": "..."},
///   "tokens": {"queues": "native|xtables|none", "threads": 2, "credential": "certificate of web-1
///   by CN=fleet, until 2027-01-01",
///              "expires": "2027-01-01T00:00:00Z, or null", "peers": ["10.0.0.0/8"],
///              "enforcement_points": 1, "peer_identities": 0},
///   "gate": {"refused": {"policy": 3, "...": 0}, "audited": 0,
///            "births": {"quarantined": "always|while_running|absent|off", "reason": "why not
///            always"}},
///   "cgroup_driver": "systemd|cgroupfs", "problems": ["what keeps the daemon from doing its whole
///   job"]}
/// `errors` are those of the last load; while there are any, the generation in force is an older
/// one. Root only.
inline constexpr const char* status = "status";

/// params {"examine": true} -> [workload object, ...] in name order. Without `examine` warnings are
/// those of the last time that somebody asked. Root only.
inline constexpr const char* workloads = "workloads";

/// params {} -> {"generation": 4, "rules": 2, "warnings": []}; an error where the files are not
/// valid: its message holds every diagnostic, one a line, and nothing changed. Root only.
inline constexpr const char* reload = "reload";

/// params {"from": "app=web,env=prod", "to": "@corp-dns", "port": "udp/53"} -> control::explain()'s
/// JSON. An end is the name of a live workload, a label list, an entity (@host, @world, @NAME of a
/// network) or an address. Root only.
inline constexpr const char* explain = "explain";

/// params {"labels": ["app=web"], "properties": ["MemoryMax=1G"], "unit": "NAME, or empty",
/// "changes_user": false}
/// -> {"name": "x.scope", "cgroup": "/trireme.slice/x.scope"}: the calling process is in that
/// cgroup, and the kernel enforces it. `changes_user`: it will change uid or gid before. Anyone;
/// the handler checks the grants.
inline constexpr const char* launch = "launch";

/// params {"unit": "postgresql@14-main.service"} -> {"state": "enforced"} once the unit's cgroup is
/// enforced, or where no [[unit]] entry matches it any more; an error where that cannot be. Called
/// by the gate in a unit's ExecCondition. With "kept": [inode numbers] where systemd has kept
/// sockets of an earlier run; the unit gets them when it is called again with "alone": those of
/// them that nobody but PID 1 has. Root only.
inline constexpr const char* unit_gate = "unit-gate";

/// params {"follow": true, "limit": 100, "summary": false, and what FlowFilter::parse() reads} ->
/// event lines, each a flow; the newest `limit` ones first, oldest to newest, then, with follow,
/// each as it happens and no result; without follow the result is {"count": 100}.
///   {"time": "2026-01-31T12:00:00.123456Z", "verdict": "allow|deny|audit",
///    "source": {"labels": {...}, "workload": "x.scope", "address": "127.0.0.1"}, "destination":
///    {..., "entity": "@host"}, "protocol": "tcp", "port": 80, "rule": "allow 'web to db'
///    (policy.toml:12:1)", "reason": "no rule allows it"}
/// An end has "labels" and "workload", or "entity"; "address" where known. With summary each line
/// stands for many alike, the most frequent first: "count", "first", and "time" of the newest; they
/// reach further back. Root only.
inline constexpr const char* flows = "flows";

/// params {"limit": 100, and what FlowFilter::parse() reads} -> {"flows": 12, "unknown": 0,
/// "complete": true, "left_out": 0, "connections": [a flow as above with "count", ...]}: what is
/// alive by now and touches a workload (TCP that both ends have closed is not), alike ones
/// together, the most frequent first. `left_out` did not fit the limit; of `unknown` ones (audited,
/// and told long ago) nobody knows the ends; not `complete`: there are more kinds than the daemon
/// tells apart. Root only.
inline constexpr const char* connections = "connections";

/// params {} -> {"directory": "/etc/trireme", "generation": 3, "mode": "enforce|audit", "sources":
/// [{"file": "policy.toml", "content":
/// "..."}]}: the policy in force as it was read. Root only.
inline constexpr const char* policy = "policy";

/// params {} -> {"workloads": [...], "labels": ["app=web"], "networks": ["@dns"]}: what a shell
/// completes. Root only.
inline constexpr const char* words = "words";

/// params {} -> {"text": "Prometheus exposition format"}. Root only.
inline constexpr const char* metrics = "metrics";

}  // namespace trireme::control::method
