package journal

// Identifiers of the events that an operator may act on, for ID. packaging/systemd/fdt.catalog explains
// each; an identifier is never reused.
const (
	WorkerReady         = "3f53ad12dd7a51b9a5d8a90b4b357e56"
	WorkerDraining      = "85b622e9876a50749bcf42fac4d83548"
	WorkerStopped       = "d662cbd39b8d56498b2c7dc991e5cadb"
	ListenerMissing     = "0fd9e19064ed538daf3467c735f669d3"
	AcceptFailing       = "cb7c741c74ec5f40ab48bef7ff811da4"
	AcceptRecovered     = "193ba511193c5db5bc587fc5632fef6d"
	ConnectionCut       = "505637835fc35c26ad9e064a24527fcc"
	HandlerStuck        = "1e01094c0b95568eaae685f5d569b3eb"
	WatchdogFailing     = "bf59d68e993b59d7902e979f26222b03"
	ReloadDone          = "a0b8cda0c562534fa9678cc22098543a"
	ReloadRejected      = "67b3bbd27d065eff9b893970fb4449a8"
	ReloadFailed        = "c45356b3cb0a5c5c944a352fd4313743"
	LastGood            = "dc14af3d54f0573eb15fa82c39d135bb"
	Adopted             = "4ac2a6785c125f69b14192468a5261f6"
	WorkerFailed        = "d496aa8daaf35cf29d298cc93c00ee43"
	Stopping            = "802d0f70586355a694239971e6713605"
	Stopped             = "6c9968466964584f91d7d713f7141b07"
	TransactionInDoubt  = "48292507ce5f5b42941d4ffea9ac1d18"
	TransactionDecided  = "dc215148d2a357d7bb868b1145d56ab7"
	HeuristicHazard     = "5082b1a93a6e54099b18bbd3a1b2ee73"
	LogPoisoned         = "96502609c20c5b00a6cb37f6a8dc44e6"
	LogForeign          = "c86b405bafdd40f7bf931ede72c399c4"
	LogDamaged          = "03ccae3f4dd0405cb7d47738ef40cd7f"
	TransactionLeft     = "8aee9be3871849afb88606f3151bf499"
	ResourceUnreachable = "245b8b0373b4575b941a2859e4e6a3df"
	ResourceBack        = "075b6d326faa58839cdd9f423cb1f6e7"
)
