# SPDX-License-Identifier: MIT
# Completion for the moekit commands (bash; zsh after `autoload -U compinit bashcompinit; compinit; bashcompinit`). It asks
# the command itself: what -h lists is what is offered, for a verb what that verb's -h lists, and for an option's argument
# or a verb's first operand what --values lists, with files where it exits with 1: they may be meant as well.
_moekit() {
    local cur=${COMP_WORDS[COMP_CWORD]} cmd=${COMP_WORDS[0]} verb=${COMP_WORDS[1]} option=${COMP_WORDS[COMP_CWORD - 1]}
    local help words='' files=-f before='' operand='' word
    help=$("$cmd" -h 2>/dev/null)
    if ((COMP_CWORD > 1)) && [[ $verb != -* ]] && grep -q "$cmd $verb\b" <<<"$help"; then
        help=$("$cmd" "$verb" -h 2>/dev/null)
    else
        verb=
    fi
    if [[ $cur == --*=* ]]; then # one word in zsh, three in bash
        option=${cur%%=*} before=$option= cur=${cur#*=}
    elif [[ $cur == = ]]; then
        cur=
    elif [[ $option == = ]]; then
        option=${COMP_WORDS[COMP_CWORD - 2]}
    elif [[ $cur == -* ]]; then
        files= option=
        words=$(grep -oE -- '^ {2,6}(-[a-zA-Z], )?--[a-z0-9-]+' <<<"$help" | grep -oE -- '--[a-z0-9-]+')
    elif ((COMP_CWORD == 1)); then
        words=$(grep -oE "$cmd [a-z]+" <<<"$help" | cut -d' ' -f2 | sort -u)
        [[ ! $words ]] || files=
    elif ((COMP_CWORD == 2)) && [[ $verb ]]; then
        operand=$(sed -n "s/^usage: $cmd $verb \([A-Z]*\)\( .*\)*$/\1/p" <<<"$help")
    fi
    if [[ $option == -* || $operand ]]; then
        words=$("$cmd" ${verb:+"$verb"} --values="${operand:-$option}" 2>/dev/null) && files=
        if [[ $words && $cur == *,* ]]; then # a list of them
            before+=${cur%,*}, cur=${cur##*,}
        fi
    fi
    [[ $files ]] || compopt +o filenames 2>/dev/null
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$before$word")
    done < <(compgen -W "$words" ${files:+"$files"} -- "$cur")
}
complete -o filenames -F _moekit moe-partition moe-plan-check moe-train moe-ckpt moe-stat
