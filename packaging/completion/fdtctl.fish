# Completion of fdtctl(8) for fish: fdtctl itself knows what may come next.
function __fdtctl_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] complete -- $words[2..-1] "$current" 2>/dev/null)
        if string match -q ':directories*' -- $line
            __fish_complete_directories "$current"
        else
            echo $line
        end
    end
end
complete -c fdtctl -f -a '(__fdtctl_complete)'
