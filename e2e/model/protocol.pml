/*
 * The protocol of docs/design/protocol.md for one partition, for the model checker Spin. It is a second opinion: written from
 * the page, not from the code, which the explorer of aggregator/internal/partition checks.
 *
 * Two aggregators share one subscription. A message is delivered to either, at any time, also again, and to both. A Commit
 * travels to the store by itself: its sender may stop waiting for the reply, and it may arrive long after. An aggregator
 * may crash. FAULTS bounds how often something of this kind happens.
 *
 *	safety    no message is counted twice, and none is acknowledged that is not settled
 *	liveness  every message is settled and acknowledged in the end, whichever process runs when
 *
 * Each of NO_PRECONDITION, EARLY_ACKNOWLEDGEMENT, FORGETFUL and NO_REDELIVERY plants a defect that Spin must find.
 */

#ifndef FAULTS
#define FAULTS 2
#endif
#define MESSAGES 2
#define ALL 3 /* a set of messages is a byte, with a bit for each */

byte acknowledged, settled; /* sets: what the broker has acknowledged, what the checkpoint contains */
byte pulled;                /* the set of what was delivered once */
byte revision;              /* of the checkpoint's document */
byte counted[MESSAGES];     /* how often the documents of tags contain each message */
byte faults = FAULTS;

#ifdef NO_REDELIVERY
#define ONCE ALL
#else
#define ONCE 0
#endif

/* A Commit: its sender and which of the sender's attempts it is, the revision that it replaces, and what it counts. */
chan commits = [4] of { byte, byte, byte, byte };
/* A reply, to an attempt of an aggregator: whether the Commit is in. */
chan replies[2] = [4] of { byte, bool };

inline count(set) {
	if
	:: (set & 1) -> counted[0]++; assert(counted[0] == 1)
	:: else
	fi;
	if
	:: (set & 2) -> counted[1]++; assert(counted[1] == 1)
	:: else
	fi
}

/* The store applies Commits one after the other, each completely or not at all. */
active proctype Store() {
	byte sender, attempt, base, set;
end:	do
	:: atomic { commits ? sender, attempt, base, set ->
		if
#ifdef NO_PRECONDITION
		:: true ->
#else
		:: base == revision ->
#endif
			count(set);
#ifndef FORGETFUL
			settled = settled | set;
#else
			settled = set; /* the checkpoint forgets what it contained */
#endif
			revision++;
			replies[sender] ! attempt, true
#ifndef NO_PRECONDITION
		:: else -> replies[sender] ! attempt, false
#endif
		fi;
		sender = 0; attempt = 0; base = 0; set = 0 }
	od
}

inline acknowledge(set) {
	acknowledged = acknowledged | set;
	assert((acknowledged & ~settled) == 0)
}

/* pull takes one message that is not acknowledged, or, as a fault, one that is. */
inline pull(one) {
	atomic { !(held & one) && (!(acknowledged & one) || faults > 0) && !(pulled & one & ONCE) ->
		pulled = pulled | one;
		if
		:: (acknowledged & one) -> faults--
		:: else
		fi;
		held = held | one
#ifdef EARLY_ACKNOWLEDGEMENT
		; acknowledge(one)
#endif
	}
}

active [2] proctype Aggregator() {
	byte held, attempt, which;
	bool in;
	byte me = _pid - 1; /* Store is process 0 */
end:	do
	:: pull(1)
	:: pull(2)
	:: atomic { held != 0 && (held & ~settled) -> /* load, and send a Commit of what the checkpoint does not contain */
			attempt++;
			commits ! me, attempt, revision, held & ~settled };
		do
		:: atomic { replies[me] ? which, in ->
			if
			:: which == attempt -> which = 0; break /* if it is a conflict, load again */
			:: else -> which = 0 /* of an earlier attempt */
			fi }
		:: atomic { faults > 0 -> faults--; break } /* a timeout: the outcome is unknown, load again */
		od;
		in = false
	:: atomic { held != 0 && (held & ~settled) == 0 -> /* all that is held is settled */
			acknowledge(held); held = 0 }
	:: atomic { held != 0 && faults > 0 -> faults--; held = 0 } /* a crash: leases end */
	od
}

ltl everything_is_counted { <>[] (settled == ALL && acknowledged == ALL) }
