# Completion of fdtctl(8) for bash: fdtctl itself knows what may come next.
_fdtctl() {
    local word
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        if [ "$word" = :directories ]; then
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "${COMP_WORDS[COMP_CWORD]}")
            return
        fi
        COMPREPLY+=("$word")
    done < <("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _fdtctl fdtctl
