# Sourced by the scripts that run doctest programs: doctest_shards.

# doctest_shards PROGRAM ARGUMENTS...: runs the test cases that the arguments choose, two processes at a time. Cases are
# dealt in turn to a fixed number of processes, so that neighbours, which take about as long, are spread; a process gets
# the same cases in every run. Fails when a process fails or crashes, or when the cases that ran are not those listed.
doctest_shards() (
  shards=16 at_a_time=2 start=$SECONDS status=0 ran=0
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  "$@" --no-colors --list-test-cases >"$work/list" 2>&1 </dev/null ||
    { cat "$work/list"; echo "doctest-shards: the test cases cannot be listed" >&2; exit 1; }
  mapfile -t names < <(grep -v -e '^\[doctest\]' -e '^=*$' "$work/list")
  if ((${#names[@]} == 0)); then echo "doctest-shards: no test case was chosen" >&2; exit 1; fi

  local twice
  twice=$(printf '%s\n' "${names[@]}" | sort | uniq -d)  # a filter takes all cases of a name
  if [[ -n $twice ]]; then echo "doctest-shards: two test cases are called: $twice" >&2; exit 1; fi

  run() {  # run SHARD PROGRAM ARGUMENTS...
    local shard=$1 filter= i result=0
    shift
    for ((i = shard; i < ${#names[@]}; i += shards)); do filter+=${names[i]//[,\\]/?},; done  # commas part filters
    "$@" --no-colors --test-case="$filter" >"$work/$shard.log" 2>&1 </dev/null || result=$?
    echo $result >"$work/$shard.end"
  }
  say() {  # what has ended and was not said yet
    local end log result count
    for end in "$work"/*.end; do
      [[ -e $end ]] || continue
      log=${end%.end}.log
      sed '/^\[doctest\] \(doctest version\|run with "--help"\)/d' "$log"
      result=$(<"$end")
      if [[ $result != 0 ]]; then
        status=1
        ((result <= 1)) || echo "doctest-shards: a process ended with status $result"
      fi
      count=$(sed -n '/^\[doctest\] test cases:/ { s/[^0-9]*\([0-9]*\).*/\1/p; q }' "$log")  # none after a crash
      ran=$((ran + ${count:-0}))
      rm "$end"
    done
  }

  ((shards <= ${#names[@]})) || shards=${#names[@]}
  for ((shard = 0; shard < shards; ++shard)); do
    if ((shard >= at_a_time)); then wait -n || true; say; fi
    run $shard "$@" &
  done
  wait
  say
  if ((ran != ${#names[@]})); then
    echo "doctest-shards: $ran of ${#names[@]} test cases ran"
    status=1
  fi
  echo "$ran test cases in $shards processes took $((SECONDS - start)) s"
  exit $status
)
