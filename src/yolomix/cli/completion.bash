# Tab completion of yolomix in bash. In ~/.bashrc: source <(yolomix completion bash)
_yolomix() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <("${1/#\~\//$HOME/}" __complete bash "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)
}
complete -o nospace -F _yolomix yolomix
