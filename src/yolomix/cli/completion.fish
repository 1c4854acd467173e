# Tab completion of yolomix in fish: yolomix completion fish > ~/.config/fish/completions/yolomix.fish
function __yolomix
    set -l command (string replace -r '^~/' "$HOME/" -- (commandline -opc)[1])
    $command __complete fish (commandline -cp) 2>/dev/null
end
complete -c yolomix -f -a '(__yolomix)'
