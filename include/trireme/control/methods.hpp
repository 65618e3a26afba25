// SPDX-License-Identifier: Apache-2.0
// The methods of the control socket and their JSON. Programs can rely on the keys listed here;
// objects can have more. An error has "kind": "usage" if a value that the user chose is invalid,
// such as an endpoint that does not exist.
//
// workload object (method workloads):
//   {"name": "x.scope", "kind": "process|container|unit",
//    "labels": {"app": "web", "zone": "eu"},
//    "host_labels": ["zone"] (keys of labels that come from [host]; absent if there are none),
//    "identity": 17, "state": "enforced|quarantined|unenforced", "reason": "",
//    "cgroup": "/trireme.slice/x.scope", "container": "<64 hex digits, or empty>",
//    "network": "host|own|shared", or null while it is not known,
//    "warnings": ["CAP_NET_ADMIN: ..."], "capabilities": ["CAP_NET_ADMIN"] (that warnings are
//    about), "acknowledged": ["CAP_NET_RAW: ..."] (warnings that [host] acknowledges),
//    "published": [{"protocol": "tcp", "port": 80, "host_port": 8080}] (ports of the host that the
//    engine forwards to the container; absent if there are none),
//    "hold": {"by": "alice", "reason": "", "since": "2026-01-31T12:00:00Z"} (absent unless its
//      quarantine was ordered)}
#pragma once

namespace trireme::control {

/// "version" of every line of an answer. It grows if a key changes its meaning or goes away; new
/// methods and keys do not change it.
inline constexpr int kProtocolVersion = 1;

}  // namespace trireme::control

namespace trireme::control::method {

/// params {} -> {"version": "0.1.0", "mode": "enforce|audit", "uptime_seconds": 12,
///   "policy": {"directory": "/etc/trireme", "generation": 3, "digest": "<64 hex digits>",
///              "identity_digest": "<64 hex digits>", "rules": 2, "loaded": "2026-01-31T12:00:00Z",
///              "errors": ["policy.toml:1:1: ..."], "warnings": []},
///   "pending": null, or {"confirm_until": "2026-01-31T12:01:00Z", "seconds_left": 42,
///               "user": "alice", "digest": "<64 hex digits>", "identity_digest": "...",
///               "rollback_digest": "<64 hex digits>"}: an apply that waits for confirm,
///   "state_directory": "/var/lib/trireme",
///   "workloads": {"enforced": 1, "quarantined": 0, "unenforced": 0},
///   "capabilities": {"workloads": 1, "by_capability": {"CAP_NET_RAW": 1}}, not acknowledged ones,
///   "holds": [{"name": "x.service", "kind": "unit", "by": "alice", "reason": "",
///              "since": "2026-01-31T12:00:00Z", "live": true}],
///   "sources": {"docker": "connected, 2 containers", "units": "..."},
///   "tokens": {"queues": "the kernel's queue mechanism as text, or none", "threads": 2,
///              "credential": "certificate of web-1 by CN=fleet, until 2027-01-01",
///              "expires": "2027-01-01T00:00:00Z", or null,
///              "peers": ["10.0.0.0/8"], "nat": ["10.1.0.0/16"], "enforcement_points": 1,
///              "peer_identities": 0, "proved_connections": 0,
///              "crowded": {"handshakes": {"dropped": 3, "holder": "remote host 10.0.0.7",
///                                         "holds": 900, "of": 1024, "lately": true}}},
///   "peers": [{"address": "10.0.0.2", "ok": 2, "refused": 7, "reason": "denied_by_peer"}],
///   "gate": {"refused": {"policy": 3, "...": 0}, "audited": 0,
///            "births": {"quarantined": "always|while_running|absent|off",
///                       "reason": "why it is not always"}},
///   "self_check": {"gate_repairs": 0, "network_moves": 0},
///   "conntrack": [{"network": "@host", "entries": 120, "max": 262144, "full": false}],
///   "names": {"addresses": 2, "answers_believed": 5, "answers_doubted": 0, "answers_lost": 0},
///   "cgroup_driver": "systemd|cgroupfs",
///   "problems": ["something that keeps the daemon from working fully"]}
/// "errors" are those of the last load; while there are any, an older generation stays in force.
/// "digest" is of policy.toml and policy.d, "identity_digest" of identity.toml and identity.d.
/// "peers": flows of the last 5 to 10 minutes that workloads here began to remote hosts, "ok":
/// those that were allowed; "reason" is the newest refusal's, "none" if there is none; hosts with
/// the most refusals first, at most 256. "births" says whether the kernel quarantines new
/// containers before their first instruction.
/// "holds": the quarantine orders; "live": whether a workload that the order covers exists now.
/// "tokens": "peers" and "nat" are those of [host]; "peer_identities": label sets that remote hosts
/// have proved; "proved_connections": proved TCP connections, as long as their sockets exist;
/// "crowded": resources of the verifier that have been full since the daemon's start (handshakes,
/// exchanges, held_datagrams, held_segments, proved_connections, proved_datagrams, requests,
/// first_datagrams): how many entries were "dropped" to make room, the largest "holder" at the last
/// time, and how many of all "of" entries it "holds"; "lately": that was less than 30 s ago.
/// "self_check": "gate_repairs": programs and numbers of the gate that others had changed and that
/// were repaired; "network_moves": workloads that were found in another network namespace, and are
/// enforced there or in quarantine.
/// "conntrack": how full it is in each network namespace with workloads; "full" from nine tenths
/// on, until it is below eight tenths.
/// "names": addresses that are in a [[network]] by a DNS name, and DNS answers: those that added
/// addresses, those not used because no rule allows the workload to ask that server, and those
/// dropped because the queue was full.
/// Root only.
inline constexpr const char* status = "status";

/// params {"examine": true} -> [workload object, ...] sorted by name. With "examine": false, the
/// warnings are those of the last request that examined the workloads. Root only.
inline constexpr const char* workloads = "workloads";

/// params {"name": "x.service", "reason": ""} -> workload object. Drops all traffic of a live
/// workload until `release`: also after a restart of the daemon or, for containers and units, of
/// the workload, and after a reboot. "reason" is at most 200 bytes in one line. The user who is
/// recorded is the caller's login user, or the caller's user if it has none: its name in
/// /etc/passwd, else "uid 1000". Root only.
inline constexpr const char* quarantine = "quarantine";

/// params {"name": "x.service"} -> workload object, or null if no workload of that name exists now.
/// Ends the order of `quarantine`; an error if there is none. A container or unit can still be
/// "quarantined" in the result: until it is known whether it still is a workload. Root only.
inline constexpr const char* release = "release";

/// params {} -> {"generation": 4, "rules": 2, "warnings": []}. If the files are invalid, it changes
/// nothing and returns an error whose message has every diagnostic, one per line. Root only.
inline constexpr const char* reload = "reload";

/// params {"from": "app=web,env=prod", "to": "@corp-dns", "port": "udp/53"} -> the JSON of
/// control::explain(). An endpoint is the name of a workload, a list of labels, an entity (@host,
/// @world, @NAME of a network), an address, or a DNS name that is in a network or was seen in a
/// flow. Root only.
inline constexpr const char* explain = "explain";

/// params {} -> events, then {"networks": [{"name": "this host",
///     "addresses": [{"address": "10.0.0.7", "length": 24}]}],
///   "peers": ["10.0.0.0/8"], "handshakes": true,
///   "seen_names": [{"name": "deb.example.org", "address": "192.0.2.1"}]}
/// What `explain` knows: who is where. "networks" are the network namespaces with workloads, this
/// host's own first. "peers" are those of [host], empty if this host has no credential.
/// "seen_names" are those of flows. Each event is one of
///   {"resident": {"name": "x.scope", "labels": {...}, "host_labels": [...], "identity": 17,
///                 "state": "enforced|quarantined|unenforced", "reason": "",
///                 "networks": [0] (indices; the first is where it was started),
///                 "unprovable": "why remote hosts refuse its labels, or empty"}}
///   {"named": {"network": 0, "address": "192.0.2.1", "names": ["deb.example.org"]}}
/// Root only.
inline constexpr const char* world = "world";

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

/// params {"follow": true, "limit": 100, "summary": false, "all": false, and the keys of
/// FlowFilter::parse()} -> events, each a flow: the newest "limit" flows, oldest first. With
/// "follow", each new flow follows as it happens, and there is no result. Without, the result is
/// {"count": 100, "left_out": 0, "since": "2026-01-31T11:00:00Z"}; "since": the time from which on
/// matching flows are listed, as far as they are still stored.
///   {"time": "2026-01-31T12:00:00.123456Z", "verdict": "allow|deny|audit",
///    "verdicts": {"source": "allow|deny|audit", or null, "destination": ...},
///    "source": {"labels": {...}, "workload": "x.scope", "address": "127.0.0.1"},
///    "destination": {"entity": "@host", "address": "..."}, "protocol": "tcp", "port": 80,
///    "rule": "allow 'web to db' (policy.toml:12:1)", "reason": "no rule allows it",
///    "policy": "<first 16 digits of the digest of the policy in force>",
///    "cause": "one word for programs; absent if there is none", "sampled": true}
/// With "all", allowed flows too, as far as they are reported: those have "sampled", and each pair
/// of endpoints and port is reported at most once a minute.
/// A flow whose two ends are on this host is one event. "verdicts": what each end decided; null: it
/// is no workload, or a remote host decides and did not report it.
/// An endpoint has "labels" and "workload", or "entity"; "address" if it is known. One with
/// "quarantined": true or "ended": true (a workload that has ended, and whose socket another
/// process still has) has "workload" and "labels" only where they are known. With "summary", each
/// event is a group of identical flows, the largest group first, with "count", "first" (the time of
/// the oldest) and "time" (of the newest). Groups reach further back than single flows. The result
/// then has "forgotten" too: groups that the daemon had no room for since its start. Root only.
inline constexpr const char* flows = "flows";

/// params {"limit": 100, "processes": false, and the keys of FlowFilter::parse()} -> {"flows": 12,
/// "unknown": 0, "complete": true, "unread_networks": 0, "left_out": 0, "connections": [a flow as
/// above with "count", "local", "guess" and "unproved", ...]}: the open connections of workloads,
/// as the policy in force judges them, without TCP connections that both sides have closed.
/// Identical ones are one entry, the most frequent first. "unknown": audited flows whose ends are
/// not known. "local": both ends are in one network namespace of this host. "guess": which end is
/// the client is a guess by the ports, because no listener is left and conntrack did not see the
/// connection begin. "unproved": the ends are workloads in two network namespaces of this host and
/// have not proved their labels to each other; rules decide by their addresses. "left_out": entries
/// that match but exceed the limit. "unread_networks": network namespaces that were not read,
/// because reading the others took more than 2 s; connections there are missing or have one end.
/// "complete" is false if there are such, or more kinds of connection than the daemon counts. With
/// "processes": also connections of unlabeled processes of units and containers; entries are
/// distinguished by address, TCP has "client_ports" (of each connection), an end that is such a
/// process has "cgroup", that of its unit or container, and a workload whose connection ends if
/// its labels change has "token": true. Root only.
inline constexpr const char* connections = "connections";

/// params {} -> what this host runs that is a workload or could become one:
///   {"workloads": [{"name", "kind", "cgroup", "container", "labels", "host_labels", "own_labels",
///                   "state", "reason"}],
///    "containers": [{"id", "name", "cgroup", "network": "host|own", or null while it is not known,
///                    "labels": {...} (the image's included), "image_labels": {...}, both null
///                    while they are not known}] (empty with containers = "none"),
///    "units": ["/system.slice/nginx.service"] (cgroups), "units_off": "why no unit can be a
///    workload, or empty", "strict_slice": "/trireme.slice"}. Root only.
inline constexpr const char* present = "present";

/// params {} -> {"directory": "/etc/trireme", "generation": 3, "digest": "<64 hex digits>",
/// "identity_digest": "<64 hex digits>", "mode": "enforce|audit", "sources": [{"file":
/// "policy.toml", "content": "..."}], "identity_sources": [...], "expiring": [{"rule": "allow 'web
/// to db' (policy.toml:12:1)", "until": "2026-12-01T00:00:00Z", "expired": false}],
/// "expiring_left_out": 0}: the files of the policy and the identity in force, as they were read,
/// and the rules that have an `until`, the first 1,000 ("expiring_left_out": how many more there
/// are). Rules that have expired are not in force. Root only.
inline constexpr const char* policy = "policy";

/// params {} -> [{"rule": "allow 'web to db' (policy.toml:12:1)", "name": "web to db",
///   "action": "allow|deny", "mode": "enforce|audit", "file": "policy.toml", "line": 12,
///   "hits": 3, "last": "2026-01-31T12:00:00Z" or null, "since": "2026-01-31T11:00:00Z"}, ...]:
/// how many of the flows that were reported (method flows, with "all") each rule has decided since
/// "since", in the order of the files; the last two lines, "baseline" and "no rule", have no
/// "name", "action", "mode", "file" and "line". Root only.
inline constexpr const char* rules = "rules";

/// params {} -> {"at": 5023.1, "read": 5022.9, "since": 12.5, "complete": true,
///   "identities": [{"labels": "app=web,env=prod", "workloads": 2}],
///   "pairs": [{"from": "app=web", "to": "app=db", "connections": 3, "bytes": 52133, "denied": 0,
///              "audited": 0, "allowed": 7, "last": 1790000000}],
///   "left_out": {"identities": 0, "pairs": 0}, "forgotten": 0}
/// Who talks to whom, by identity. "from" and "to" are labels as text, "(no labels)", "@host",
/// "@world", networks ("@dns", or "@corp,@dns" for addresses in both), "(quarantined)" or
/// "(ended)". "connections": open TCP connections that "from" began, without those between
/// unlabeled processes or of a workload to itself. The others count since "since": "bytes" of TCP
/// connections in both directions, without headers; "denied", "audited" and "allowed" flows as
/// method `flows` with "all" reports them, so that identical denials count at most once in five
/// seconds, and "allowed" counts samples. "last": Unix time of the newest flow, or at which
/// connections were seen open.
/// "bytes" is a lower bound: a connection that is open when counting begins counts from then on,
/// and what one moves after the last reading before it ends is not counted. It is absent if no TCP
/// connection of the pair was seen, because the bytes of UDP and ICMP are not known, and before
/// Linux 6.9, where reading them can block the daemon.
/// Of more than 1,000 addresses of one workload's connections, in either direction, others count as
/// "@world", whatever networks they are in.
/// All callers share an answer, built about once a second, so that one who asks each second gets a
/// new one. "at": when flows were counted, "read": when connections and bytes were, which on large
/// hosts is less often; in seconds of CLOCK_MONOTONIC, as "since". "complete": false if not all
/// connections were read, or their bytes could not be read this time. The answer is an error as
/// long as no reading has succeeded. An answer has at most 1,000 identities, those with the most
/// workloads, and 1,000 pairs, those that changed last: a flow, bytes, or another number of
/// connections. "left_out": how many more there are, with pairs that have open connections and are
/// not counted, because those that are known take all places. "forgotten": pairs that made room for
/// others; their numbers begin at 0 again. One owner, a workload or a remote host whose connections
/// these are, has an eighth of the places. Root only.
inline constexpr const char* traffic = "traffic";

/// params {} -> {"candidates": [{"kind": "unit|container|compose", "name": "shop.service",
/// "listens": ["tcp/5432"], "connects": 2, "labels": {"app": "shop"}, "lines": "text to paste"}],
/// "connections": 12, "denied": [{"count": 1, "source": end, "destination": end, "protocol": "tcp",
/// "port": 80}], "notes": ["..."]}: what listens or connects and is no workload, the labels that
/// are proposed for it, and its open connections; "denied": those that the policy in force would
/// deny, if it was enforced and the candidates had these labels. An end is as in `flows`;
/// "workload" is the name of the candidate or workload. "connects": open connections that the
/// candidate began. "notes" also says what was not looked at. Root only.
inline constexpr const char* survey = "survey";

/// params {"staged": "NAME", "digest": "<64 hex digits>", "identity_digest": "...",
/// "over_digest": "...", "over_identity_digest": "...", "confirm": 60} -> {"generation": 4,
/// "digest": "<64 hex digits>", "identity_digest": "...", "rules": 2,
/// "confirm_until": "2026-01-31T12:01:00Z", or null, "warnings": []}: replaces the files of the
/// configuration directory by those in STATE-DIRECTORY/staged/NAME, and loads them. The digests are
/// of these files, and of the files in force with which the caller has compared them; if one
/// differs, it is an error. With "confirm" (seconds, at most 86400), the change is rolled back
/// unless `confirm` is called in that time. On error, nothing has changed. Root only.
inline constexpr const char* apply = "apply";

/// params {} -> as `apply`, with "waited": whether a change waited. If none did, the files in force
/// must be those of the last `apply` since the daemon's start, which were in force before, or are
/// confirmed. Errors: they are not, as after a rollback; or the time has passed. Root only.
inline constexpr const char* confirm = "confirm";

/// params {"digest": "first digits of a policy digest, or of both digests with a colon between
/// them; absent or empty: the configuration before"} -> as `apply`. Ends an `apply` that waits for
/// confirmation. Root only.
inline constexpr const char* rollback = "rollback";

/// params {} -> [{"digest": "<64 hex digits>", "identity_digest": "...",
/// "time": "2026-01-31T12:00:00Z", "user": "alice", or null if it is not known,
/// "how": "start|save|apply|rollback", "rules": 2, "in_force": true, "rolled_back": false}, ...]:
/// the last 20 configurations that were in force, newest first. Root only.
inline constexpr const char* history = "history";

/// params {} -> {"workloads": [...], "labels": ["app=web"], "networks": ["@dns"], "held": [...]}:
/// the words that shell completion offers; "held": names with a quarantine order. Root only.
inline constexpr const char* words = "words";

/// params {} -> {"text": "Prometheus exposition format"}. Root only.
inline constexpr const char* metrics = "metrics";

}  // namespace trireme::control::method
