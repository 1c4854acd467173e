# Tab completion of yolomix in zsh. In ~/.zshrc, below compinit: source <(yolomix completion zsh)
_yolomix() {
    local line word
    local -a whole begun
    for line in "${(@f)$(${~words[1]} __complete zsh "${words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}"; do
        word=${line%%$'\t'*}
        case $word in
            '') ;;
            *[=/]) begun+=("${word//:/\\:}:${line#*$'\t'}") ;;
            *) whole+=("${word//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    _describe -V yolomix begun -S '' -- whole
}
compdef _yolomix yolomix
