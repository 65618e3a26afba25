// The methods of the control socket and their JSON. Programs may rely on what is listed; more keys may be there.
//
// workload object (methods workloads and explain):
//   {"name": "x.scope", "kind": "process|container|unit", "labels": {"app": "web"}, "identity": 17, "state":
//   "enforced|quarantined|unenforced",
//    "reason": "", "cgroup": "/trireme.slice/x.scope", "container": "<64 hex digits, or empty>", "network": "host|own|shared", or null
//    where that is not known yet, "warnings": ["CAP_NET_ADMIN: ..."]}
#pragma once

namespace trireme::control::method {

/// params {} -> {"version": "0.1.0", "mode": "enforce|audit", "uptime_seconds": 12,
///   "policy": {"directory": "/etc/trireme", "generation": 3, "rules": 2, "loaded": "2026-01-31T12:00:00Z", "errors": ["policy.toml:1:1:
///   ..."],
///              "warnings": []},
///   "workloads": {"enforced": 1, "quarantined": 0, "unenforced": 0},
///   "sources": {"docker": "connected, 2 containers", "units": "..."},
///   "cgroup_driver": "systemd|cgroupfs", "problems": ["what keeps the daemon from doing its whole job"]}
/// `errors` are those of the last load; while there are any, the generation in force is an older one. Root only.
inline constexpr const char* status = "status";

/// params {} -> [workload object, ...] in name order. Root only.
inline constexpr const char* workloads = "workloads";

/// params {} -> {"generation": 4, "rules": 2, "warnings": []}; an error where the files are not valid: its message holds
/// every diagnostic, one a line, and nothing changed. Root only.
inline constexpr const char* reload = "reload";

/// params {"from": "app=web,env=prod", "to": "@corp-dns", "port": "udp/53"} -> control::explain()'s JSON. An end is the name of
/// a live workload, a label list, an entity (@host, @world, @NAME of a network) or an address. Root only.
inline constexpr const char* explain = "explain";

/// params {"labels": ["app=web"], "properties": ["MemoryMax=1G"], "unit": "NAME, or empty", "changes_user": false}
/// -> {"name": "x.scope", "cgroup": "/trireme.slice/x.scope"}: the calling process is in that cgroup, and the kernel enforces it.
/// `changes_user`: it will change uid or gid before. Anyone; the handler checks the grants.
inline constexpr const char* launch = "launch";

/// params {"unit": "postgresql@14-main.service"} -> {"state": "enforced"} once the unit's cgroup is enforced, or where no [[unit]] entry
/// matches it any more; an error where that cannot be. Called by the gate in a unit's ExecStartPre. Root only.
inline constexpr const char* unit_gate = "unit-gate";

/// params {"follow": true, "limit": 100} -> event lines, each a flow; the newest `limit` ones first, oldest to newest, then, with follow,
/// each as it happens and no result; without follow the result is {"count": 100}.
///   {"time": "2026-01-31T12:00:00.123456Z", "verdict": "allow|deny|audit",
///    "source": {"labels": {...}, "workload": "x.scope", "address": "127.0.0.1"}, "destination": {..., "entity": "@host"},
///    "protocol": "tcp", "port": 80, "rule": "allow 'web to db' (policy.toml:12:1)", "reason": "no rule allows it"}
/// An end has "labels" and "workload", or "entity"; "address" where known. Root only.
inline constexpr const char* flows = "flows";

/// params {} -> {"text": "Prometheus exposition format"}. Root only.
inline constexpr const char* metrics = "metrics";

}  // namespace trireme::control::method
