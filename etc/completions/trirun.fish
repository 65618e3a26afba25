# fish completion of trirun(1)
complete -c trirun -s l -l label -x -d 'Label of the workload'
complete -c trirun -s p -l property -x -d 'systemd property of the scope'
complete -c trirun -l unit -x -d 'Name of the scope'
complete -c trirun -l slice -x -d 'Slice below trireme.slice'
complete -c trirun -l uid -x -a '(__fish_complete_users)' -d 'Run as this user'
complete -c trirun -l gid -x -a '(__fish_complete_groups)' -d 'Run with this group'
complete -c trirun -l runtime-dir -x -a '(__fish_complete_directories)'
complete -c trirun -x -a '(__fish_complete_subcommand)'
