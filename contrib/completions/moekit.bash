# SPDX-License-Identifier: MIT
# Completion for the moekit commands (bash; zsh after `autoload -U compinit bashcompinit; compinit; bashcompinit`). It asks
# the command itself: what -h lists is what is offered, for a verb what that verb's -h lists.
_moekit() {
    local cur=${COMP_WORDS[COMP_CWORD]} cmd=${COMP_WORDS[0]} verb=${COMP_WORDS[1]} help words='' files=-f word
    help=$("$cmd" -h 2>/dev/null)
    if ((COMP_CWORD > 1)) && [[ $verb != -* ]] && grep -q "$cmd $verb\b" <<<"$help"; then
        help=$("$cmd" "$verb" -h 2>/dev/null)
    fi
    if [[ $cur == -* ]]; then
        files=
        words=$(grep -oE -- '^ {2,6}(-[a-zA-Z], )?--[a-z0-9-]+' <<<"$help" | grep -oE -- '--[a-z0-9-]+')
    elif ((COMP_CWORD == 1)); then
        words=$(grep -oE "$cmd [a-z]+" <<<"$help" | cut -d' ' -f2 | sort -u)
    fi
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <(compgen -W "$words" ${files:+"$files"} -- "$cur")
}
complete -o filenames -F _moekit moe-partition moe-plan-check moe-train moe-ckpt moe-stat
