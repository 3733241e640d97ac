/* lexicon.c - the word lists of the gates, as text, and the table made from them.
 *
 * The lists were written for this project. They stay readable here and become a
 * hash table on first use (about 100 us, once a process): a table generated ahead
 * would save that and hide the words.
 *
 * An opposed pair is written  left words | right words;  every left word is opposed
 * to every right one. Words of one side are not thereby synonyms: "first" and
 * "earliest" stand opposite "last" and "latest" and still differ. Stems are opposed,
 * so that enable/disable covers enabling/disabled. */
#include "evidence/lexicon.h"

#include "base/bytes.h"
#include <assert.h>
#include <math.h>
#include <pthread.h>

enum { LEXEMES_MAX = 8192, PAIRS_MAX = 32768, STEMS_MAX = 16384 };

/* class | words. A number behind '=' is the value of the words after it. */
typedef struct word_list {
    uint32_t classes;
    uint16_t languages;
    const char *words;
} word_list;

enum { EN = 1 << RP_LANGUAGE_EN, DE = 1 << RP_LANGUAGE_DE, FR = 1 << RP_LANGUAGE_FR,
       ES = 1 << RP_LANGUAGE_ES, IT = 1 << RP_LANGUAGE_IT, PT = 1 << RP_LANGUAGE_PT,
       NL = 1 << RP_LANGUAGE_NL };

static const word_list lists[] = {
    { RP_LEX_FUNCTION, EN, "the a an this that these those there here such same other another any "
      "each every both either some all own so than then too as if whether because since while "
      "although though however therefore thus etc also just only even yet still again ever" },
    { RP_LEX_FUNCTION | RP_LEX_COORDINATOR, EN, "and or nor but versus vs" },
    { RP_LEX_FUNCTION | RP_LEX_AUXILIARY, EN, "is are was were be been being am do does did done "
      "doing have has had having can could will would shall should may might must ought let "
      "lets get gets got" },
    { RP_LEX_FUNCTION | RP_LEX_PRONOUN, EN, "i you he she it we they me him her us them his hers "
      "its their theirs your yours himself herself itself themselves yourself one ones someone "
      "somebody something anyone anybody anything everyone everybody everything" },
    { RP_LEX_FUNCTION | RP_LEX_PRONOUN | RP_LEX_PERSONAL, EN, "my mine myself our ours ourselves" },
    { RP_LEX_FUNCTION | RP_LEX_PREPOSITION, EN, "of for with at by about against between among "
      "through during upon per via within across along around behind beside beyond despite "
      "except like regarding concerning" },
    { RP_LEX_FUNCTION | RP_LEX_PREPOSITION | RP_LEX_DIRECTION, EN, "from to before after above "
      "below into onto over under in out on off up down toward towards until till inside outside "
      "past" },
    { RP_LEX_FUNCTION | RP_LEX_NEGATION, EN, "not never no none nobody nothing nowhere neither "
      "without cannot n't dont doesnt didnt isnt arent wasnt werent wont wouldnt cant couldnt "
      "shouldnt hasnt havent hadnt aint mustnt hardly scarcely barely" },
    { RP_LEX_REFUSAL, 0, "fail failed fails failing failure refuse refused refuses refusing unable "
      "lack lacks lacked lacking cease ceased ceases decline declined declines deny denied denies "
      "prevent prevented prevents prevention avoid avoided avoids avoiding prohibit prohibited "
      "prohibits neglect neglected neglects incapable" },
    { RP_LEX_FUNCTION | RP_LEX_QUESTION, EN, "who whom whose what which when where why how" },
    { RP_LEX_FUNCTION | RP_LEX_FILLER, EN, "please um uh er erm hmm oh wow okay ok well hi hello "
      "hey thanks thank sorry wait actually basically kindly sure yes yeah" },
    { RP_LEX_MODIFIER, 0, "really very truly actually quite rather pretty simply exactly "
      "currently generally usually possible possibly best good great easily easy quickly "
      "different various main major specific" },
    { RP_LEX_PERSONAL, 0, "near nearby nearest closest local locally" },
    { RP_LEX_TEMPORAL, 0, "current currently latest newest recent recently upcoming ongoing live "
      "nowadays lately breaking trending weather forecast news presently" },

    { RP_LEX_NEGATIVE, 0, "untrue untruthful uncertain unclear unfair unable unhappy unhealthy unimportant "
      "unlikely unknown unlike unnecessary unsafe unusual unwell unpleasant unpopular unreal "
      "unreasonable unreliable unstable unsuccessful unsure untidy unwise unwilling unworthy "
      "uncommon uncomfortable unconscious unfamiliar unfinished unfortunate unfriendly ungrateful "
      "unintelligent uninteresting unkind unlawful unlimited unlucky unavailable unaware "
      "unacceptable unbelievable incorrect improbable impossible imperfect impolite impatient "
      "improper inaccurate inactive inadequate inappropriate incapable incomplete inconvenient "
      "indirect ineffective inefficient inexpensive informal insane insecure insignificant "
      "insufficient insubstantial invalid invisible involuntary irregular irrelevant "
      "irresponsible illegal illogical illiterate dishonest disloyal disobedient dissatisfied "
      "dissimilar abnormal noncrucial nonessential nonexistent nonsmoker unmarried unemployed "
      "unequal uneven unexpected unharmed unhelpful unused unproven unpaid unsold unsolved" },
    { RP_LEX_SYMMETRIC, 0, "friends friend connected acquaintance acquaintances related married "
      "similar same equal equals equivalent compatible different difference differences relative "
      "relatives sibling siblings cousin cousins colleague colleagues neighbor neighbors neighbour "
      "dating engaged compare compared comparison together versus identical adjacent near "
      "close associated linked partner partners roommates coworkers twins classmates distance" },

    { RP_LEX_NUMBER, 0, "=0 zero =2 two =3 three =4 four =5 five =6 six =7 seven "
      "=8 eight =9 nine =10 ten =11 eleven =12 twelve =13 thirteen =14 fourteen =15 fifteen "
      "=16 sixteen =17 seventeen =18 eighteen =19 nineteen =20 twenty =30 thirty =40 forty =50 "
      "fifty =60 sixty =70 seventy =80 eighty =90 ninety" },
    { RP_LEX_NUMBER | RP_LEX_WEAK, 0, "=1 one single once =2 twice double =3 triple thrice =0.5 "
      "half" },
    { RP_LEX_SCALE, 0, "=12 dozen dozens =100 hundred hundreds =1000 thousand thousands =1e5 lakh lakhs =1e6 million "
      "millions mio =1e7 crore crores =1e9 billion billions bn =1e12 trillion trillions" },
    { RP_LEX_ORDINAL | RP_LEX_WEAK, 0, "=1 first" },
    { RP_LEX_ORDINAL, 0, "=3 third =4 fourth =5 fifth =6 sixth =7 seventh =8 eighth =9 "
      "ninth =10 tenth =11 eleventh =12 twelfth =20 twentieth" },
    { RP_LEX_ORDINAL | RP_LEX_WEAK | RP_LEX_AMBIGUOUS, 0, "=2 second" },
    { RP_LEX_MONTH, 0, "=1 january jan =2 february feb =3 mar =4 april apr =6 june jun =7 july jul "
      "=8 august aug =9 september sep sept =10 october oct =11 november nov =12 december dec" },
    { RP_LEX_MONTH | RP_LEX_AMBIGUOUS, 0, "=3 march =5 may" },
    { RP_LEX_WEEKDAY, 0, "=1 monday mondays mon =2 tuesday tuesdays tue tues =3 wednesday "
      "wednesdays wed =4 thursday thursdays thu thurs =5 friday fridays fri =6 saturday saturdays "
      "=7 sunday sundays" },
    { RP_LEX_WHEN | RP_LEX_TEMPORAL, 0, "=1 today todays =2 tonight =3 tomorrow tomorrows =4 "
      "yesterday yesterdays =5 now" },
    { RP_LEX_WHEN, 0, "=10 morning mornings =11 afternoon afternoons =12 evening evenings =13 "
      "night nights =14 noon midday =15 midnight =20 spring =21 summer =22 autumn fall =23 winter" },

    /* Sets whose members exclude each other; the value tells the set. */
    { RP_LEX_EXCLUSIVE, 0, "=1 red blue green yellow black white brown orange purple pink gray grey "
      "violet turquoise beige maroon navy teal =2 python java javascript typescript ruby rust golang "
      "php perl kotlin swift scala haskell matlab julia fortran cobol =3 windows linux macos ubuntu "
      "debian fedora android ios centos =4 mysql postgres postgresql sqlite oracle mongodb redis "
      "cassandra mariadb =5 english french german spanish italian portuguese russian chinese "
      "japanese korean arabic hindi dutch swedish polish turkish greek latin hebrew urdu bengali "
      "tamil mandarin cantonese =6 football soccer basketball tennis baseball cricket hockey golf "
      "rugby volleyball =7 dog cat horse cow pig sheep goat bird fish snake rabbit hamster chicken "
      "duck turtle lizard rat mouse squirrel owl lobster snail spider parrot frog =8 guitar piano "
      "violin drums flute trumpet cello =9 chrome firefox safari opera =10 aws azure gcp =11 "
      "breakfast lunch dinner =12 mercury venus mars jupiter saturn uranus neptune pluto =13 gold "
      "silver copper iron aluminium aluminum platinum lead zinc nickel =14 visa mastercard amex "
      "=15 oxygen hydrogen nitrogen helium carbon =16 beer wine whiskey vodka rum coffee tea milk "
      "=17 facebook instagram twitter snapchat whatsapp linkedin youtube tiktok =18 beef pork lamb "
      "=19 christian muslim hindu jewish buddhist atheist sikh catholic =20 left right =21 heart "
      "liver kidney lung brain stomach =22 knee ankle shoulder elbow wrist hip" },
    { RP_LEX_PLACE, 0, "afghanistan albania algeria angola argentina armenia australia austria "
      "azerbaijan bahrain bangladesh belarus belgium bolivia bosnia botswana brazil bulgaria "
      "cambodia cameroon canada chile china colombia congo croatia cuba cyprus denmark ecuador egypt "
      "england estonia ethiopia finland france georgia germany ghana greece guatemala haiti honduras "
      "hungary iceland india indonesia iran iraq ireland israel italy jamaica japan jordan kazakhstan "
      "kenya kuwait laos latvia lebanon libya lithuania luxembourg malaysia maldives mali malta mexico "
      "moldova mongolia montenegro morocco mozambique myanmar namibia nepal netherlands nicaragua "
      "niger nigeria norway oman pakistan panama paraguay peru philippines poland portugal qatar "
      "romania russia rwanda scotland senegal serbia singapore slovakia slovenia somalia spain sudan "
      "sweden switzerland syria taiwan tanzania thailand tunisia turkey uganda ukraine uruguay "
      "uzbekistan venezuela vietnam wales yemen zambia zimbabwe "
      "alabama alaska arizona arkansas california colorado connecticut delaware florida hawaii idaho "
      "illinois indiana iowa kansas kentucky louisiana maine maryland massachusetts michigan "
      "minnesota mississippi missouri montana nebraska nevada ohio oklahoma oregon pennsylvania "
      "tennessee texas utah vermont virginia wisconsin wyoming "
      "london paris berlin madrid rome vienna moscow tokyo beijing shanghai delhi mumbai bangalore "
      "hyderabad chennai kolkata pune sydney melbourne toronto vancouver montreal chicago boston "
      "seattle denver dallas houston austin miami atlanta philadelphia phoenix detroit cleveland "
      "pittsburgh baltimore minneapolis orlando oakland portland memphis nashville charlotte tampa "
      "dubai istanbul cairo lagos nairobi bangkok jakarta manila seoul amsterdam brussels lisbon "
      "dublin warsaw prague budapest athens stockholm oslo copenhagen helsinki zurich geneva munich "
      "hamburg frankfurt milan barcelona manchester liverpool edinburgh glasgow "
      "europe asia africa antarctica "
      "american british canadian australian indian pakistani mexican brazilian russian african asian "
      "european irish scottish thai vietnamese egyptian iranian iraqi israeli armenian ethiopian" },

    { 0, DE, "der die das und ist nicht ein eine ich wie auf mit von zu den dem des "
      "für im wird sind kann wo warum wer sie es oder auch sich bei" },
    { 0, FR, "le la les et est un une des que qui dans pour pas sur avec du je vous "
      "comment pourquoi où quel quelle sont ce cette il elle nous mon" },
    { 0, ES, "el los las y es un una que en para por con del cómo como qué cuál "
      "dónde cuándo se su mi está son lo al más" },
    { 0, IT, "il lo gli e è un una che di per con non come perché dove quando sono "
      "del della nel chi cosa si" },
    { 0, PT, "o os as e é um uma que de para com não como por do da em qual onde "
      "quando são você se no na" },
    { 0, NL, "de het een en is niet ik hoe van op met voor dat wat waar wie te zijn "
      "naar kan wordt er ook" },
    { RP_LEX_TEMPORAL, 0, "heute morgen gestern aktuell aktuelle aktuellen hoy mañana ayer "
      "aujourd'hui demain oggi domani ieri hoje amanhã vandaag сегодня завтра вчера сейчас" },
    { RP_LEX_PERSONAL, 0, "mein meine meinen meinem meiner mijn мой моя моё мои" },
};

/* Units: dimension, then =factor words. */
typedef struct unit_list {
    rp_dimension dimension;
    uint32_t classes; /* besides RP_LEX_UNIT */
    const char *words;
} unit_list;

static const unit_list units[] = {
    { RP_DIMENSION_LENGTH, 0, "=1 meter meters metre metres =1000 km kms kilometer kilometers "
      "kilometre kilometres =0.01 cm centimeter centimeters centimetre centimetres =0.001 mm "
      "millimeter millimeters millimetre millimetres =1609.344 mile miles =0.9144 yard yards yd "
      "=0.3048 foot feet ft =0.0254 inch inches =9460730472580800 lightyear lightyears" },
    { RP_DIMENSION_LENGTH, RP_LEX_AMBIGUOUS, "=1 m =1609.344 mi =0.0254 in" },
    { RP_DIMENSION_MASS, 0, "=1 kg kgs kilo kilos kilogram kilograms =0.001 gram grams gm =1e-6 mg "
      "milligram milligrams =1e-9 mcg ug microgram micrograms =0.45359237 lb lbs pounds-mass =0.028349523125 "
      "oz ounce ounces =1000 tonne tonnes =907.18474 ton tons =6.35029318 stone stones" },
    { RP_DIMENSION_MASS, RP_LEX_AMBIGUOUS, "=0.001 g" },
    { RP_DIMENSION_TIME, 0, "=1 sec secs seconds =60 minute minutes min mins =3600 hour hours hr "
      "hrs =86400 day days =604800 week weeks =2629746 month months =31556952 year years yr yrs =0.001 "
      "ms millisecond milliseconds =1e-6 us microsecond microseconds =315569520 decade decades "
      "=3155695200 century centuries" },
    { RP_DIMENSION_TIME, RP_LEX_AMBIGUOUS, "=1 s second =3600 h =86400 d" },
    { RP_DIMENSION_BYTES, 0, "=1 byte bytes =1e3 kb kilobyte kilobytes =1e6 mb megabyte megabytes "
      "=1e9 gb gigabyte gigabytes gigs =1e12 tb terabyte terabytes =1024 kib =1048576 mib "
      "=1073741824 gib =1099511627776 tib =1e15 pb petabyte petabytes" },
    { RP_DIMENSION_SPEED, 0, "=0.2777777777777778 kmh kph =0.44704 mph =0.5144444444444445 knot knots" },
    { RP_DIMENSION_VOLUME, 0, "=1 liter liters litre litres =0.001 ml milliliter milliliters "
      "millilitre millilitres =3.785411784 gallon gallons =0.473176473 pint pints =0.2365882365 cup "
      "cups =0.01478676478125 tablespoon tablespoons tbsp =0.00492892159375 teaspoon teaspoons tsp" },
    { RP_DIMENSION_VOLUME, RP_LEX_AMBIGUOUS, "=1 l" },
    { RP_DIMENSION_AREA, 0, "=4046.8564224 acre acres =10000 hectare hectares =1 sqm =0.09290304 "
      "sqft" },
    { RP_DIMENSION_POWER, 0, "=1 watt watts =1e3 kw kilowatt kilowatts =1e6 mw megawatt megawatts "
      "=745.6998715822702 hp horsepower" },
    { RP_DIMENSION_ENERGY, 0, "=1 joule joules =4184 kcal =4184 calorie calories =3600000 kwh" },
    { RP_DIMENSION_VOLTAGE, 0, "=1 volt volts =1e3 kv =0.001 mv millivolt millivolts" },
    { RP_DIMENSION_FREQUENCY, 0, "=1 hz hertz =1e3 khz =1e6 mhz =1e9 ghz" },
    { RP_DIMENSION_CELSIUS, 0, "=1 celsius centigrade" },
    { RP_DIMENSION_FAHRENHEIT, 0, "=1 fahrenheit" },
    { RP_DIMENSION_KELVIN, 0, "=1 kelvin" },
    { RP_DIMENSION_PERCENT, 0, "=1 percent pct" },
    { RP_DIMENSION_DOLLAR, 0, "=1 dollar dollars usd bucks =0.01 cents cent" },
    { RP_DIMENSION_EURO, 0, "=1 euro euros eur" },
    { RP_DIMENSION_POUND, 0, "=1 gbp quid sterling" },
    { RP_DIMENSION_YEN, 0, "=1 yen jpy" },
    { RP_DIMENSION_RUPEE, 0, "=1 rupee rupees rs inr" },
    { RP_DIMENSION_YUAN, 0, "=1 yuan rmb cny" },
};

static const char *const questions[] = {
    [RP_QUESTION_WHO] = "who whom whose", [RP_QUESTION_WHEN] = "when",
    [RP_QUESTION_WHERE] = "where",        [RP_QUESTION_WHY] = "why",
    [RP_QUESTION_HOW] = "how",            [RP_QUESTION_WHAT] = "what which",
};

/* Opposed pairs; see the head of the file. */
static const char *const opposed[] = {
    /* What is done. */
    "enable activate allow permit|disable deactivate forbid prohibit block disallow",
    "allow let|prevent", "activate|deactivate", "open|close shut", "opened|closed", "start begin commence launch|stop end finish "
    "terminate quit halt", "buy purchase|sell", "buying|selling", "bought purchased|sold",
    "borrow|lend", "rent|own buy", "lock|unlock", "add insert attach append|remove delete drop "
    "detach subtract", "include|exclude omit", "accept approve|reject refuse decline deny",
    "accepted approved|rejected refused declined denied", "increase raise grow rise gain boost "
    "maximize expand|decrease reduce lower shrink fall lose minimize cut contract",
    "gain|lose loss", "gained won|lost", "win|lose", "winner|loser", "encrypt|decrypt",
    "encode|decode", "compress|decompress extract", "install|uninstall remove",
    "mount|unmount", "connect|disconnect", "subscribe|unsubscribe", "follow|unfollow",
    "import|export", "upload|download", "push|pull", "pulled|pushed", "send|receive", "sent|received", "give|take receive",
    "given gave|took taken received", "deposit|withdraw", "login|logout", "logging-in|logging-out", "sign-in|sign-out",
    "show display reveal|hide conceal", "shown|hidden", "create build make construct|destroy "
    "delete demolish", "created built|destroyed demolished", "love like enjoy adore|hate dislike despise "
    "detest", "loved liked|hated disliked", "live|die", "alive living|dead", "born|died", "birth|death",
    "arrive|depart leave", "arriving arrival|departing departure leaving", "arrives arrived|departs departed leaves left",
    "enter|exit leave", "come|go", "came|went", "remember|forget", "teach|learn", "attack|defend", "help|hinder harm",
    "succeed|fail", "success|failure", "pass|fail", "save|spend", "saved|spent", "marry|divorce", "married|divorced single",
    "hire|fire", "employ|dismiss", "turn-on|turn-off", "switch-on|switch-off", "put-on|take-off",
    "merge join combine unite|split separate divide", "lift|drop", "rise|sink set", "sleep|wake", "asleep|awake", "stand|sit lie",
    "standing|sitting lying", "walk|run sit", "agree|disagree", "appear|disappear vanish", "obey|disobey",
    "trust|distrust", "support|oppose", "supported|opposed", "praise|criticize condemn", "freeze|melt thaw", "frozen|thawed",
    "heat|cool", "heating|cooling", "fill|empty", "wrap|unwrap", "tie|untie", "fasten|unfasten loosen", "tighten|loosen",
    "confirm|cancel", "keep retain|discard remove delete", "publish|unpublish", "promote|demote", "upgrade|downgrade",
    "validate|invalidate", "found|lost", "hit|miss", "read|write", "reading|writing", "question|answer", "ask|answer",
    "questions|answers", "forward|reverse backward backwards", "advance|retreat", "inhale|exhale", "acquire|lose", "commit|rollback",
    "protect|expose", "stay remain|leave", "stayed remained|left", "rejected|validated", "formed founded established|dismantled dissolved disbanded", "retire|work",
    "laugh smile|cry frown", "laughing smiling|crying frowning", "dress|undress", "load|unload", "plug|unplug",
    "mute|unmute", "pin|unpin", "archive|unarchive", "friend|enemy", "friends|enemies strangers",
    /* How much. */
    "most|least", "more|less fewer", "many|few", "much|little", "maximum max highest largest biggest greatest most|minimum min "
    "lowest smallest least", "max|min", "upper|lower", "greater larger bigger higher|smaller lower lesser less",
    "large big huge enormous giant|small little tiny miniature", "high|low", "long|short", "longer|shorter", "longest|shortest",
    "tall|short", "taller|shorter", "tallest|shortest", "deep|shallow", "deepest|shallowest", "wide broad|narrow", "thick|thin",
    "fat|thin skinny slim", "heavy|light", "heavier|lighter", "heaviest|lightest", "strong|weak", "stronger|weaker", "strongest|weakest",
    "fast quick rapid|slow", "faster quicker|slower", "fastest quickest|slowest", "quickly|slowly",
    "hot warm|cold cool", "hotter warmer|colder cooler", "hottest warmest|coldest coolest",
    "expensive costly|cheap inexpensive", "cheaper|pricier dearer", "cheapest|costliest priciest dearest", "rich wealthy|poor", "richer wealthier|poorer", "richest wealthiest|poorest",
    "young|old", "younger|older", "youngest|oldest", "new|old", "newer|older", "newest latest|oldest earliest",
    "early|late", "earlier|later", "earliest first|latest last", "first|last final", "first|second third", "second|third", "next|previous last",
    "next following|preceding", "near close|far distant", "nearest closest|farthest furthest", "nearer closer|farther further",
    "full|empty", "whole entire|partial", "all every always|none never", "all|some", "always|sometimes rarely seldom never", "often frequently|rarely seldom never",
    "everything|nothing", "everyone everybody|nobody none", "everywhere|nowhere", "single|multiple several many", "single|married double",
    "one|several many multiple", "both|neither", "same identical similar equal|different dissimilar distinct other", "more|fewer", "above over|below under beneath", "over|under",
    "before|after", "until|after", "up upward upwards|down downward downwards", "in inside within into|out outside",
    "indoor indoors|outdoor outdoors", "inside|outside", "internal interior inner|external exterior outer", "onshore|offshore", "on|off", "top|bottom", "front|back rear", "left|right",
    "left-hand|right-hand", "north northern|south southern", "east eastern|west western", "from|to", "import imports|export exports",
    "ahead|behind", "forwards|backwards", "ascending|descending", "ascend climb|descend", "horizontal|vertical", "inbound incoming|outbound outgoing",
    "upstairs|downstairs", "uphill|downhill", "upstream|downstream", "push|pop", "head|tail", "source|destination target", "origin|destination", "sender|recipient receiver",
    /* What it is like. */
    "good great excellent|bad poor terrible awful evil", "better|worse", "best|worst", "right|wrong", "correct|incorrect wrong", "true|false", "real genuine authentic|fake false counterfeit",
    "positive|negative", "pros|cons", "advantage advantages benefit benefits|disadvantage disadvantages drawback drawbacks", "strength strengths|weakness weaknesses",
    "safe|dangerous unsafe risky", "legal|illegal", "lawful|unlawful", "possible|impossible", "likely probable|unlikely improbable", "common|rare uncommon",
    "easy simple|hard difficult complicated complex", "easier simpler|harder", "easiest simplest|hardest", "clean|dirty", "cleaner|dirtier", "wet|dry", "happy glad|sad unhappy",
    "beautiful pretty attractive|ugly", "healthy|sick ill unhealthy", "smart intelligent clever|stupid dumb", "brave|cowardly", "kind|cruel mean", "polite|rude", "patient|impatient", "honest|dishonest",
    "generous|stingy selfish", "calm|nervous anxious excited", "lazy|hardworking diligent", "optimistic|pessimistic", "humble|arrogant proud", "shy|outgoing", "introvert introverted|extrovert extroverted",
    "public|private", "free|paid", "free|busy", "open|closed", "present|absent", "active|inactive passive", "visible|invisible hidden", "available|unavailable",
    "able|unable", "guilty|innocent", "important|trivial unimportant", "necessary required mandatory|unnecessary optional", "mandatory compulsory obligatory|voluntary optional", "permanent|temporary",
    "major|minor", "majority|minority", "urban|rural", "domestic|foreign international", "modern|ancient", "natural|artificial", "liquid|solid", "soft|hard", "smooth|rough", "sharp|blunt dull", "sweet|sour bitter", "raw|cooked",
    "loud noisy|quiet silent", "bright|dark dim", "light|dark", "black|white", "day|night", "morning|evening night", "sunrise dawn|sunset dusk", "summer|winter", "peace|war", "heaven|hell",
    "hero|villain", "parent parents|child children", "adult adults|child children kid kids", "teacher|student pupil", "doctor|patient", "employer|employee", "landlord|tenant", "buyer|seller", "customer|seller", "lender|borrower", "plaintiff|defendant",
    "predator|prey", "master|slave", "primary|secondary", "master|branch", "client|server", "input|output", "inputs|outputs", "request|response", "cause causes|effect effects", "theory|practice", "supply|demand",
    "asset assets|liability liabilities", "credit|debit", "profit profits|loss losses", "income|expense expenses", "revenue|expenditure", "exports|imports", "bull bullish|bear bearish", "long-term|short-term", "hardware|software",
    "vegetarian vegan|carnivore", "hypertension|hypotension", "hyperglycemia|hypoglycemia", "hyperthyroidism|hypothyroidism", "hyperthermia|hypothermia", "hyperkalemia|hypokalemia", "benign|malignant", "acute|chronic", "systolic|diastolic", "artery|vein", "male males|female females",
    "man men|woman women", "boy boys|girl girls", "husband|wife", "father dad|mother mom mum", "son sons|daughter daughters", "brother brothers|sister sisters", "uncle|aunt", "nephew|niece", "king|queen", "prince|princess", "he|she", "him|her", "his|her hers", "himself|herself", "actor|actress", "gentleman|lady", "boyfriend|girlfriend",
    "bride|groom", "grandfather grandpa|grandmother grandma", "sir|madam", "and|or", "and both|either", "with|without", "for|against", "despite|because", "can|cannot", "must should|may might", "former|current latter", "past|future", "yesterday|tomorrow", "ancestor ancestors|descendant descendants", "import|deport", "odd|even", "singular|plural", "prefix|suffix", "uppercase|lowercase", "capital|lowercase", "synchronous sync|asynchronous async", "static|dynamic", "local|remote global", "mutable|immutable", "optional|required", "read-only|read-write", "row rows|column columns", "float|int integer", "encryption|decryption", "serialize|deserialize", "allocate|free deallocate", "acquire|release", "increment|decrement", "ascii|binary", "nonstop direct|connecting", "one-way|round-trip", "weekday weekdays|weekend weekends", "departing|returning", "pre|post", "vertical|lateral", "minimum|maximum", "minimise|maximise", "minimize|maximize", "inner|outer", "affect|unaffect", "hollow|solid", "convex|concave", "clockwise|counterclockwise anticlockwise", "odd|normal", "virtue|vice", "victory|defeat", "unknown|known famous", "optimist|pessimist", "legal|criminal", "continue|discontinue stop", "resume|pause", "play|pause", "hard|soft", "awake|unconscious", "winning|losing", "immune|susceptible liable vulnerable", "permanent|interim", "mild|severe", "voluntary|forced", "smoking|nonsmoking",
};

/* Near-synonyms: the strict gate accepts them as partners, and the antonym gate
 * does not look at them. */
static const char *const alike[] = {
    "usa us america american states", "uk britain british kingdom england", "nyc york", "netherlands holland dutch",
    "korea korean", "france french", "germany german", "spain spanish", "china chinese", "greece greek", "ireland irish",
    "turkey turkish", "sweden swedish", "denmark danish", "poland polish", "gray grey", "aluminium aluminum", "football soccer",
    "postgres postgresql", "christian catholic", "mandarin chinese",
    "big large huge", "small little tiny", "buy purchase", "start begin", "stop end finish", "get obtain acquire receive", "show display list give tell find",
    "make create build", "fix repair solve resolve", "remove delete erase", "change modify alter edit", "quick fast rapid", "cost price fare", "phone telephone mobile cellphone cell",
    "car automobile", "movie film", "job work career employment", "money cash", "kid child", "picture photo image photograph", "happy glad joyful", "sad unhappy", "smart intelligent clever", "good great nice",
    "best top", "way method manner", "method technique approach", "use utilize", "help assist", "need require want", "like love enjoy", "begin commence", "error bug issue problem", "answer reply response", "question query",
    "doctor physician", "medicine drug medication", "illness disease sickness", "symptom sign", "treat cure", "company firm business", "student pupil", "person people human", "country nation", "town city", "house home", "road street", "easy simple", "difficult hard tough", "correct right", "wrong incorrect", "rich wealthy", "famous popular", "beautiful pretty", "important significant", "close near", "earn make", "learn study", "speak talk", "look see view watch", "choose select pick", "lose reduce", "increase improve", "prepare ready", "join enter", "quit leave resign", "visit see", "travel trip", "holiday vacation", "gift present", "kind type sort", "number amount count total", "color colour", "favorite favourite", "center centre", "program programme", "website site", "app application", "laptop notebook computer", "password passcode", "account profile", "flight plane", "aircraft plane airplane", "arrive reach", "leave depart", "cheap inexpensive", "folder directory", "file document", "print display show output",
};

/* ---- the tables ---------------------------------------------------------------------- */

static rp_lexeme lexemes[LEXEMES_MAX]; /* open addressing; hash 0: free */
static uint64_t pairs[PAIRS_MAX];
static uint64_t alike_pairs[PAIRS_MAX];
static uint64_t opposed_stems[STEMS_MAX];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static rp_lexeme *
find_slot(uint64_t hash)
{
    size_t at = (size_t)(hash ^ hash >> 29) & (LEXEMES_MAX - 1);
    while (lexemes[at].hash && lexemes[at].hash != hash)
        at = (at + 1) & (LEXEMES_MAX - 1);
    return &lexemes[at];
}

static bool
set_has(const uint64_t *set, size_t capacity, uint64_t key)
{
    for (size_t at = (size_t)(key ^ key >> 31) & (capacity - 1); set[at];
         at = (at + 1) & (capacity - 1))
        if (set[at] == key)
            return true;
    return false;
}

static void
set_add(uint64_t *set, size_t capacity, uint64_t key)
{
    size_t at = (size_t)(key ^ key >> 31) & (capacity - 1);
    while (set[at] && set[at] != key)
        at = (at + 1) & (capacity - 1);
    set[at] = key;
}

static uint64_t
pair_key(uint64_t a, uint64_t b)
{
    const uint64_t low = a < b ? a : b, high = a < b ? b : a;
    return (low * 0x9e3779b97f4a7c15u ^ high) | 1;
}

static rp_lexeme *
add_word(rp_str word, uint32_t classes, double value)
{
    rp_lexeme *slot = find_slot(rp_word_hash(word.ptr, word.len));
    slot->hash = rp_word_hash(word.ptr, word.len);
    slot->classes |= classes;
    if (value == value) /* not NaN */
        slot->value = value;
    return slot;
}

/* Call add_word for each word of a list; "=5" sets the value of those that follow. */
static void
add_list(const word_list *list)
{
    double value = (double)NAN;
    for (rp_str rest = rp_str_of(list->words); rest.len;) {
        const rp_str word = rp_str_split(&rest, ' ');
        if (!word.len)
            continue;
        if (word.ptr[0] == '=') {
            const bool is_number = rp_str_to_double((rp_str){ word.ptr + 1, word.len - 1 }, &value);
            assert(is_number);
            continue;
        }
        add_word(word, list->classes, value)->languages |= list->languages;
    }
}

static void
add_units(const unit_list *list)
{
    double factor = 1;
    for (rp_str rest = rp_str_of(list->words); rest.len;) {
        const rp_str word = rp_str_split(&rest, ' ');
        if (!word.len)
            continue;
        if (word.ptr[0] == '=') {
            const bool is_number = rp_str_to_double((rp_str){ word.ptr + 1, word.len - 1 }, &factor);
            assert(is_number);
            continue;
        }
        /* "second" is an ordinal with a value of its own; features.c knows that as
         * a unit its factor is 1. */
        rp_lexeme *slot = find_slot(rp_word_hash(word.ptr, word.len));
        const bool has_value = slot->classes & (RP_LEX_ORDINAL | RP_LEX_NUMBER);
        slot = add_word(word, list->classes | RP_LEX_UNIT, has_value ? (double)NAN : factor);
        slot->dimension = (uint8_t)list->dimension;
    }
}

static uint64_t
stem_of(rp_str word)
{
    return rp_word_stem(word.ptr, word.len);
}

static void
add_opposed(const char *line)
{
    rp_str right_all = rp_str_of(line);
    const rp_str left_all = rp_str_split(&right_all, '|');
    assert(right_all.len);
    for (rp_str left = left_all; left.len;) {
        const rp_str a = rp_str_split(&left, ' ');
        for (rp_str right = right_all; right.len;) {
            const rp_str b = rp_str_split(&right, ' ');
            if (!a.len || !b.len || stem_of(a) == stem_of(b))
                continue;
            set_add(pairs, PAIRS_MAX, pair_key(stem_of(a), stem_of(b)));
            set_add(opposed_stems, STEMS_MAX, stem_of(a) | 1);
            set_add(opposed_stems, STEMS_MAX, stem_of(b) | 1);
        }
    }
}

static void
add_alike(const char *line)
{
    for (rp_str all = rp_str_of(line); all.len;) {
        const rp_str a = rp_str_split(&all, ' ');
        for (rp_str rest = all; rest.len;) {
            const rp_str b = rp_str_split(&rest, ' ');
            set_add(alike_pairs, PAIRS_MAX, pair_key(stem_of(a), stem_of(b)));
        }
    }
}

static void
build(void)
{
    for (size_t i = 0; i < RP_COUNT(lists); i++)
        add_list(&lists[i]);
    for (size_t i = 0; i < RP_COUNT(units); i++)
        add_units(&units[i]);
    for (size_t q = 0; q < RP_COUNT(questions); q++)
        for (rp_str rest = rp_str_of(questions[q]); rest.len;)
            add_word(rp_str_split(&rest, ' '), RP_LEX_QUESTION, (double)NAN)->question = (uint8_t)q;
    for (size_t i = 0; i < RP_COUNT(opposed); i++)
        add_opposed(opposed[i]);
    for (size_t i = 0; i < rp_antonyms_count; i++)
        add_opposed(rp_antonyms[i]);
    for (size_t i = 0; i < RP_COUNT(alike); i++)
        add_alike(alike[i]);
}

const rp_lexeme *
rp_lexicon_find(uint64_t hash)
{
    pthread_once(&once, build);
    const rp_lexeme *slot = find_slot(hash);
    return slot->hash ? slot : NULL;
}

bool
rp_lexicon_opposed(uint64_t stem_a, uint64_t stem_b)
{
    pthread_once(&once, build);
    return set_has(pairs, PAIRS_MAX, pair_key(stem_a, stem_b));
}

bool
rp_lexicon_alike(uint64_t stem_a, uint64_t stem_b)
{
    pthread_once(&once, build);
    return set_has(alike_pairs, PAIRS_MAX, pair_key(stem_a, stem_b));
}

bool
rp_lexicon_has_opposite(uint64_t stem)
{
    pthread_once(&once, build);
    return set_has(opposed_stems, STEMS_MAX, stem | 1);
}

/* ---- stems and prefixes -------------------------------------------------------------- */

static bool
is_vowel(char c)
{
    return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u' || c == 'y';
}

static bool
ends(const char *ptr, size_t len, const char *ending, size_t ending_len)
{
    return len >= ending_len && memcmp(ptr + len - ending_len, ending, ending_len) == 0;
}

/* Length of ptr[0..len) without -ing or -ed and with a doubled consonant undone. */
static size_t
strip_verb_ending(const char *ptr, size_t len)
{
    size_t cut = 0;
    if (len >= 6 && ends(ptr, len, "ing", 3))
        cut = 3;
    else if (len >= 5 && ends(ptr, len, "ed", 2) && ptr[len - 3] != 'e')
        cut = 2;
    if (!cut)
        return len;
    bool has_vowel = false;
    for (size_t i = 0; i + cut < len; i++)
        has_vowel |= is_vowel(ptr[i]);
    if (!has_vowel)
        return len; /* "bring", "string" */
    len -= cut;
    const char last = ptr[len - 1];
    if (len >= 4 && last == ptr[len - 2] && !is_vowel(last) && last != 's' && last != 'l')
        len--;
    return len;
}

uint64_t
rp_word_stem(const char *ptr, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((uint8_t)ptr[i] >= 0x80 || (ptr[i] >= '0' && ptr[i] <= '9'))
            return rp_word_hash(ptr, len); /* English rules only */
    if (len > 3 && ptr[len - 1] == 's' && ptr[len - 2] != 's' && ptr[len - 2] != 'u'
        && !(ptr[len - 2] == 'i' && len < 5)) {
        if (len > 4 && ends(ptr, len, "ies", 3))
            len -= 2; /* countri */
        else if (len > 4 && (ends(ptr, len, "ches", 4) || ends(ptr, len, "shes", 4)
                             || ends(ptr, len, "sses", 4) || ends(ptr, len, "xes", 3)))
            len -= 2;
        else
            len -= 1;
    }
    len = strip_verb_ending(ptr, len);
    if (len > 3 && ptr[len - 1] == 'e')
        len--;
    uint64_t hash = rp_word_hash(ptr, len);
    if (len > 3 && ptr[len - 1] == 'y') /* country and countries */
        hash = (rp_word_hash(ptr, len - 1) ^ (uint8_t)'i') * 0x100000001b3u;
    return hash;
}

/* Words in which the letters are no prefix: "invest" is not "not vest". */
static bool
is_false_prefix(rp_str longer)
{
    static const char *const words[] = {
        "discover", "display", "disclose", "discount", "disorder", "dispose", "inside", "invest",
        "inform", "impress", "income", "intend", "indeed", "invent", "input", "improve", "import",
        "impact", "instance", "interest", "under", "until", "unless", "install", "install",
        "discuss", "distance", "district", "disease", "disable", "union", "unit", "unite", "uncle",
        "important", "include", "increase", "india", "inch", "into", "internet", "infect", "inspire",
        "disc", "dish", "district", "information", "intake", "insight", "index", "indoor", "discharge",
        "dispatch", "disaster", "invoice", "installed", "innate", "incense", "implant", "implants",
        "immigrate", "immigration", "immigrants", "immerse", "irritate", "irrigate", "nonce", "none",
    };
    for (size_t i = 0; i < RP_COUNT(words); i++)
        if (rp_str_equal(longer, rp_str_of(words[i])))
            return true;
    return false;
}

static bool
is_negated_form(rp_str longer, rp_str plain)
{
    static const char *const prefixes[] = { "un", "in", "im", "il", "ir", "dis", "non", "de", "mis" };
    if (longer.len <= plain.len || longer.len > plain.len + 5)
        return false;
    const char first = longer.ptr[0];
    const bool may_begin = memchr("uidnm", first, 5);
    for (size_t p = 0; p < RP_COUNT(prefixes) && may_begin; p++) {
        const rp_str prefix = rp_str_of(prefixes[p]);
        if (longer.len < prefix.len + 3 || !rp_str_starts_with(longer, prefix)
            || (prefix.ptr[0] == 'd' && prefix.len == 2 && longer.len < 8))
            continue;
        rp_str rest = { longer.ptr + prefix.len, longer.len - prefix.len };
        if (rest.ptr[0] == '-' && rest.len > 1)
            rest = (rp_str){ rest.ptr + 1, rest.len - 1 };
        if (stem_of(rest) == stem_of(plain) && !is_false_prefix(longer))
            return true;
    }
    /* careless / careful: one stem with opposed suffixes. */
    if (longer.len > 6 && plain.len > 5 && rp_str_ends_with(longer, RP_STR("less"))
        && rp_str_ends_with(plain, RP_STR("ful"))
        && rp_str_equal((rp_str){ longer.ptr, longer.len - 4 }, (rp_str){ plain.ptr, plain.len - 3 }))
        return true;
    return false;
}

bool
rp_words_prefix_opposed(rp_str a, rp_str b)
{
    return is_negated_form(a, b) || is_negated_form(b, a);
}
