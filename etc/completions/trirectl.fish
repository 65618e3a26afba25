# fish completion of trirectl(1)
complete -c trirectl -f
complete -c trirectl -n __fish_use_subcommand -a status -d 'What the daemon does'
complete -c trirectl -n __fish_use_subcommand -a workloads -d 'List the workloads'
complete -c trirectl -n __fish_use_subcommand -a flows -d 'Refused, audited or logged flows'
complete -c trirectl -n __fish_use_subcommand -a reload -d 'Read the configuration again'
complete -c trirectl -n __fish_use_subcommand -a policy -d 'Check, test and explain policy'
complete -c trirectl -n __fish_use_subcommand -a pki -d 'Make certificates and secrets'
complete -c trirectl -n __fish_use_subcommand -a metrics -d 'Counters for Prometheus'
complete -c trirectl -n __fish_use_subcommand -a flush -d 'After a stop, remove the rules'
complete -c trirectl -n '__fish_seen_subcommand_from policy; and not __fish_seen_subcommand_from check test explain convert' -a 'check test explain convert'
complete -c trirectl -n '__fish_seen_subcommand_from pki; and not __fish_seen_subcommand_from init issue psk' -a 'init issue psk'
complete -c trirectl -n '__fish_seen_subcommand_from init issue' -a '(__fish_complete_directories)'
complete -c trirectl -n '__fish_seen_subcommand_from psk convert' -F
complete -c trirectl -n '__fish_seen_subcommand_from init' -l name -x
complete -c trirectl -n '__fish_seen_subcommand_from issue' -l host -x
complete -c trirectl -n '__fish_seen_subcommand_from issue' -l labels -x
complete -c trirectl -n '__fish_seen_subcommand_from issue' -l days -x
complete -c trirectl -n '__fish_seen_subcommand_from issue' -l out -x -a '(__fish_complete_directories)'
complete -c trirectl -n '__fish_seen_subcommand_from flows' -s f -l follow -d 'Go on as they happen'
complete -c trirectl -n '__fish_seen_subcommand_from flows' -s n -l limit -x -d 'At most this many'
complete -c trirectl -n '__fish_seen_subcommand_from explain' -l from -x -a '@host @world'
complete -c trirectl -n '__fish_seen_subcommand_from explain' -l to -x -a '@host @world'
complete -c trirectl -n '__fish_seen_subcommand_from explain' -l port -x
complete -c trirectl -l json -d 'JSON for programs'
complete -c trirectl -l runtime-dir -x -a '(__fish_complete_directories)'
complete -c trirectl -l config-dir -x -a '(__fish_complete_directories)'
