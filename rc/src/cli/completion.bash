# SPDX-License-Identifier: Apache-2.0
# What bash needs to complete lkinit's `service`; `service completion bash`
# prints it.
_service() {
	local commands='status list start stop restart logs exec events boot completion system-init'
	local current=${COMP_WORDS[COMP_CWORD]} command= at names
	for ((at = 1; at < COMP_CWORD; at++)); do
		case ${COMP_WORDS[at]} in
		-path | --path | -sock | --sock | -n | --n | -lines | --lines | -dump-spec | --dump-spec | \
			-containerd-namespace | --containerd-namespace) ((at++)) ;;
		-*) ;;
		*)
			command=${COMP_WORDS[at]}
			break
			;;
		esac
	done
	COMPREPLY=()
	case ${COMP_WORDS[COMP_CWORD - 1]} in
	-path | --path) COMPREPLY=($(compgen -d -- "$current")) && return ;;
	-sock | --sock | -dump-spec | --dump-spec) COMPREPLY=($(compgen -f -- "$current")) && return ;;
	esac
	if [[ -z $command ]]; then
		COMPREPLY=($(compgen -W "$commands help" -- "$current"))
		return
	fi
	if [[ $current == -* ]]; then
		local flags='-q -v -path -sock -containerd-namespace -help'
		case $command in
		status) flags+=' -json' ;;
		list) flags+=' -json -names' ;;
		logs) flags+=' -f -n' ;;
		exec) flags+=' -t -T' ;;
		events) flags+=' -f -n -json' ;;
		boot) flags+=' -json -svg' ;;
		esac
		[[ $command == start ]] && flags+=' -dump-spec'
		COMPREPLY=($(compgen -W "$flags" -- "$current"))
		return
	fi
	case $command in
	status | start | stop | restart | logs | exec | events)
		# Behind the container's name stands the container's business.
		[[ $command == exec ]] && ((COMP_CWORD > at + 1)) && [[ ${COMP_WORDS[COMP_CWORD - 1]} != -* ]] && return
		names=$(service list -names 2>/dev/null)
		COMPREPLY=($(compgen -W "$names" -- "$current"))
		;;
	completion) COMPREPLY=($(compgen -W 'bash' -- "$current")) ;;
	help) COMPREPLY=($(compgen -W "$commands" -- "$current")) ;;
	esac
}
complete -F _service service
