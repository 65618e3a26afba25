# fish completion of trirectl(1)
function __trirectl_ends
    printf '%s\n' @host @world
    trirectl words workloads labels networks 2>/dev/null
end
function __trirectl_first
    not __fish_seen_subcommand_from status workloads flows reload policy pki metrics flush
end
function __trirectl_in
    __fish_seen_subcommand_from $argv
end
complete -c trirectl -f
complete -c trirectl -n __trirectl_first -a status -d 'Show the state of the daemon'
complete -c trirectl -n __trirectl_first -a workloads -d 'List the workloads'
complete -c trirectl -n __trirectl_first -a flows -d 'Show denied, audited, logged and live flows'
complete -c trirectl -n __trirectl_first -a reload -d 'Reload the configuration'
complete -c trirectl -n __trirectl_first -a policy -d 'Check, test, explain, compare, suggest or draw policies'
complete -c trirectl -n __trirectl_first -a pki -d 'Create certificates and secrets'
complete -c trirectl -n __trirectl_first -a metrics -d 'Print counters for Prometheus'
complete -c trirectl -n __trirectl_first -a flush -d 'Remove all rules (daemon must be stopped)'
complete -c trirectl -n '__trirectl_in policy; and not __trirectl_in check test explain diff apply confirm history rollback suggest graph convert' -a 'check test explain diff apply confirm history rollback suggest graph convert'
complete -c trirectl -n '__trirectl_in pki; and not __trirectl_in init issue psk' -a 'init issue psk'
complete -c trirectl -n '__trirectl_in init issue check diff apply' -a '(__fish_complete_directories)'
complete -c trirectl -n '__trirectl_in psk test convert' -F
complete -c trirectl -n '__trirectl_in init' -l name -x
complete -c trirectl -n '__trirectl_in issue' -l host -x
complete -c trirectl -n '__trirectl_in issue' -l labels -x
complete -c trirectl -n '__trirectl_in issue' -l days -x
complete -c trirectl -n '__trirectl_in issue' -l out -x -a '(__fish_complete_directories)'
complete -c trirectl -n '__trirectl_in flows' -s f -l follow -d 'Follow new flows'
complete -c trirectl -n '__trirectl_in flows' -s s -l summary -d 'Group identical flows'
complete -c trirectl -n '__trirectl_in flows' -s L -l live -d 'Open connections'
complete -c trirectl -n '__trirectl_in flows' -s v -l verbose -d 'Show all details'
complete -c trirectl -n '__trirectl_in flows' -s n -l limit -x -d 'Maximum number of flows'
complete -c trirectl -n '__trirectl_in flows' -l verdict -x -a 'allow deny audit'
complete -c trirectl -n '__trirectl_in suggest' -l denied -d 'Include denied flows'
complete -c trirectl -n '__trirectl_in flows suggest explain' -l from -x -a '(__trirectl_ends)'
complete -c trirectl -n '__trirectl_in flows suggest explain' -l to -x -a '(__trirectl_ends)'
complete -c trirectl -n '__trirectl_in flows suggest' -l with -x -a '(__trirectl_ends)'
complete -c trirectl -n '__trirectl_in flows suggest' -l protocol -x -a 'tcp udp icmp icmpv6'
complete -c trirectl -n '__trirectl_in flows suggest' -l since -x -a '15m 1h 1d 7d'
complete -c trirectl -n '__trirectl_in flows suggest explain' -l port -x -a 'tcp/ udp/ icmp icmpv6'
complete -c trirectl -n '__trirectl_in apply' -l confirm -x -a '60s 5m'
complete -c trirectl -n '__trirectl_in apply' -l yes -d 'Do not ask'
complete -c trirectl -n '__trirectl_in graph' -l format -x -a 'dot svg html json'
complete -c trirectl -l json -d 'Print JSON for programs'
complete -c trirectl -l runtime-dir -x -a '(__fish_complete_directories)'
complete -c trirectl -l config-dir -x -a '(__fish_complete_directories)'
