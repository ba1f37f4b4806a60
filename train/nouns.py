"""The nouns that a newcomer types first, and the drawing that each one means.

One line a noun: ``noun, synonym, ... = icon label``. The label is the icon's English name in the data of
emojibase; without "=" the noun is the label. The first word of a line is the noun's name in evaluation.
The tables differ in how often their nouns are drawn from (captions.py), and the first lines of FIRST are
what a short training concentrates on (``--focus`` of denoiser.py).
"""

FIRST = """
apple = red apple
banana
cat, kitten, kitty = cat
dog, puppy, doggy = dog
house, home = house
car, auto = automobile
tree = deciduous tree
flower, blossom = hibiscus
sun
moon = crescent moon
star
heart = red heart
fish = tropical fish
bird
boat, sailboat, sailing boat = sailboat
rocket
ball, football, soccer ball = soccer ball
pizza
mushroom
butterfly
robot
ghost
smiley, happy face, smiling face, smile, emoji = grinning face
balloon
strawberry
orange = tangerine
cake, piece of cake, slice of cake = shortcake
burger, hamburger = hamburger
ice cream = soft ice cream
coffee, cup of coffee, mug, cup = hot beverage
rabbit, bunny, hare = rabbit face
bear, bear cub = bear
panda
lion
tiger = tiger face
cow, calf = cow face
pig, piglet = pig face
horse, pony = horse
elephant
monkey, ape = monkey face
fox
frog, toad = frog
penguin
owl
duck, duckling = duck
chicken, hen = chicken
whale = spouting whale
shark
bee, bumblebee = honeybee
turtle, tortoise = turtle
snake
dragon
unicorn
dinosaur, dino, t-rex = T-Rex
pine tree, fir tree = evergreen tree
palm tree
rose
sunflower
tulip
cactus
cloud
rainbow
fire, flame = fire
snowman
mountain, hill = snow-capped mountain
castle, fortress = castle
bus
truck = delivery truck
train = locomotive
bicycle, bike = bicycle
plane, airplane, aeroplane, jet = airplane
ship = passenger ship
key
book = blue book
umbrella
hat, top hat = top hat
crown
gift, present, gift box = wrapped gift
guitar
alien
clock = alarm clock
phone, smartphone, cell phone = mobile phone
camera
chair
door
pineapple
taxi
ufo, flying saucer = flying saucer
astronaut
"""

COMMON = """
pear
lemon
cherry, cherries = cherries
grapes
watermelon
peach
avocado
tomato
carrot
broccoli
corn = ear of corn
eggplant
bread
cheese = cheese wedge
egg
donut, doughnut = doughnut
cookie
cupcake
birthday cake
hot dog
fries, french fries = french fries
taco
sushi
popcorn
lollipop
candy
chocolate = chocolate bar
milk, glass of milk = glass of milk
tea, cup of tea = teacup without handle
beer = beer mug
wine, glass of wine = wine glass
mouse = mouse face
wolf
deer, fawn = deer
goat
sheep, lamb = ewe
zebra
giraffe
camel = two-hump camel
kangaroo
koala
gorilla
crocodile
lizard
octopus
crab
dolphin
jellyfish
snail
spider
ladybug = lady beetle
ant
parrot
flamingo
swan
eagle, hawk = eagle
peacock
chick = front-facing baby chick
leaf = maple leaf
four leaf clover
bouquet
snowflake
lightning = high voltage
wave = water wave
volcano
beach = beach with umbrella
island = desert island
planet, saturn = ringed planet
earth, planet earth, globe, world = globe showing Europe-Africa
comet
tent
church
school
factory
bridge = bridge at night
fountain
police car
ambulance
fire truck = fire engine
racing car, race car = racing car
tractor
motorbike, motorcycle = motorcycle
scooter = motor scooter
helicopter
speedboat
anchor
basketball
baseball
tennis ball = tennis
bowling
kite
teddy bear
trophy
medal = sports medal
dice = game die
christmas tree = Christmas tree
pumpkin = jack-o-lantern
candle
lamp, light bulb = light bulb
pencil
pen
scissors
hammer
axe
wrench
magnet
magnifying glass = magnifying glass tilted left
sword, swords = crossed swords
shield
bow and arrow
bell
drum
piano = musical keyboard
violin
trumpet
saxophone
microphone
headphones = headphone
computer = desktop computer
laptop
television, tv = television
radio
bed
sofa, couch = couch and lamp
window
bathtub
toilet
ladder
bucket
basket
backpack
bag, handbag = handbag
shoe, sneaker = running shoe
high heel = high-heeled shoe
boot = hiking boot
shirt, t-shirt = t-shirt
dress
jeans
coat
scarf
glasses
sunglasses
ring
diamond, gem = gem stone
money, bag of money = money bag
coin
envelope
skull
bone
eye
tooth
baby, infant = baby
boy
girl
man
woman
person
old man
old woman
ninja
princess
prince
santa, santa claus = Santa Claus
wizard, mage = person mage
superhero = person superhero
vampire = person vampire
fairy = person fairy
angry face
sad face, crying face = crying face
clown = clown face
circle = red circle
square = red square
arrow = right arrow
"""


MORE = """
bat
badger
beaver
hedgehog
hamster
squirrel, chipmunk = chipmunk
goose
dove, pigeon = dove
turkey
rooster
donkey
raccoon
otter
seal
sloth
skunk
rhino, rhinoceros = rhinoceros
hippo, hippopotamus = hippopotamus
leopard, cheetah = leopard
llama
lobster
shrimp
squid
worm
mosquito
moose
polar bear
rat
bull = ox
scorpion
mammoth
bison
feather
potted plant, plant = potted plant
sprout, seedling = seedling
daisy = blossom
cherry blossom
lotus
shell, seashell = spiral shell
bacon
bagel
baguette = baguette bread
bell pepper
blueberry, blueberries = blueberries
burrito
butter
coconut
croissant
cucumber
garlic
honey, honey pot = honey pot
chili, hot pepper = hot pepper
kiwi = kiwi fruit
lime
mango
melon
olive
onion
pancakes, pancake = pancakes
peanuts
pie
potato
pretzel
salad = green salad
sandwich
spaghetti, pasta = spaghetti
spoon
teapot
waffle
cocktail = cocktail glass
rice, bowl of rice = cooked rice
briefcase
broom
calendar
credit card
crayon
flashlight, torch = flashlight
gear, cog = gear
gloves
tie = necktie
lipstick
lock, padlock = locked
megaphone
microscope
mirror
newspaper
paintbrush, brush = paintbrush
paperclip
pill
printer
saw = carpentry saw
screwdriver
scroll
shopping cart
shorts
shower
soap
socks
sponge
syringe
telephone = telephone
telescope
test tube
toolbox
toothbrush
trash can, wastebasket = wastebasket
cap = billed cap
graduation cap
battery
banjo
accordion
flute
american football
palette = artist palette
boxing glove
target, bullseye = bullseye
crystal ball
fireworks
magic wand, wand = magic wand
game controller, joystick = video game
puzzle piece, puzzle = puzzle piece
ribbon
sled
ticket
volleyball
yarn, ball of yarn = yarn
yo-yo
painting, framed picture = framed picture
disco ball = mirror ball
bank
brick, bricks = brick
canoe
circus tent, circus = circus tent
compass
ferris wheel
hospital
hourglass = hourglass done
hut
suitcase, luggage = luggage
full moon
mosque
parachute
rock, stone = rock
roller skate
satellite
skateboard
stop sign
stopwatch
tornado
tram
van = minibus
watch
wheel
log, wood = wood
thermometer
pickup truck
chef, cook = cook
firefighter, fireman = firefighter
police officer, policeman = police officer
farmer
scientist
child
hand = raised hand
thumbs up
brain
nose
foot
zombie = person zombie
elf = person elf
winking face
sleeping face
cool face = smiling face with sunglasses
laughing face = face with tears of joy
devil = smiling face with horns
broken heart
check mark
question mark = red question mark
"""

# Other drawings that a noun may mean: icon label -> labels. Mix.alternatives (captions.py) says how often.
ALTERNATIVES = {
    "cat": ("cat face",), "dog": ("dog face", "poodle"), "rabbit face": ("rabbit",), "tiger face": ("tiger",),
    "cow face": ("cow",), "pig face": ("pig",), "horse": ("horse face",), "monkey face": ("monkey",),
    "mouse face": ("mouse",), "dragon": ("dragon face",), "spouting whale": ("whale",), "tropical fish": ("fish",),
    "hibiscus": ("blossom", "cherry blossom"), "deciduous tree": ("evergreen tree",), "house": ("house with garden",),
    "automobile": ("sport utility vehicle", "oncoming automobile"), "star": ("glowing star",),
    "front-facing baby chick": ("baby chick",), "soft ice cream": ("ice cream",), "ewe": ("ram",),
    "two-hump camel": ("camel",), "grinning face": ("smiling face with smiling eyes", "slightly smiling face"),
    "teacup without handle": ("teapot",), "locomotive": ("train", "high-speed train"), "passenger ship": ("ship",),
    "crescent moon": ("full moon",), "running shoe": ("man's shoe",),
}

# Nouns whose drawings face left, as emoji by custom do: for these "facing left" means something.
FACING = set((
    "dog,cat,rabbit,horse,cow,pig,monkey,mouse,tiger,elephant,fish,bird,car,rocket,duck,chicken,whale,shark,bee,turtle,"
    "snake,dragon,dinosaur,bus,truck,train,bicycle,plane,ship,taxi,deer,goat,sheep,zebra,giraffe,camel,kangaroo,"
    "gorilla,crocodile,lizard,dolphin,snail,parrot,flamingo,swan,eagle,police car,ambulance,fire truck,racing car,"
    "tractor,motorbike,scooter,helicopter,speedboat,bat,badger,beaver,hedgehog,squirrel,goose,dove,turkey,rooster,"
    "donkey,raccoon,otter,seal,sloth,skunk,rhino,hippo,leopard,llama,shrimp,squid,moose,rat,bull,mammoth,bison,tram,van,"
    "pickup truck,ant").split(","))

# Words that no drawing belongs to. Training puts them into captions, so that the model learns to pass over words
# that it does not know; a caption of nothing else means a quiet landscape.
UNKNOWN = (
    "aardvark abacus algorithm anvil asteroid attic bagpipe ballerina bandit barrel beard bench blanket blender bracelet "
    "building bulldozer cabinet canvas carpet cathedral cave ceiling chameleon champion chandelier chimney citizen "
    "cliff clockwork closet cobweb column concert corridor cottage couple cradle crane crowd curtain customer dancer "
    "dentist detective dome dragonfly drawer dream dungeon economy emperor engine evening family "
    "fence festival firefly flag fog forge freedom freezer friend furniture garage garden gargoyle giant glacier gnome "
    "goblin governor grandmother harbor harp highway hockey hoodie horizon idea ink insect invention iron jacket jungle "
    "justice keyhole kingdom kitchen knight lagoon landscape lantern lawyer library lighthouse lobby machine mailbox "
    "manor marble market mask mayor memory mermaid meteor minotaur monk monster mosaic museum music nebula necklace "
    "neighbor nurse oasis office orchestra ostrich oven painter palace panther parade paradise pelican philosophy pillow "
    "pirate platypus poem portrait president prison professor pyramid queen quilt reef refrigerator restaurant ritual "
    "river road ruins sailor samurai scarecrow sculpture secret shadow shelf shop skyscraper soldier song spaceship "
    "stairs station statue storm street student subway swamp table tapestry tavern temple theatre toaster tower town "
    "toy treasure tribe troll tunnel turbine typewriter valley vase vending village villain wagon wall walrus warehouse "
    "warrior waterfall wedding werewolf windmill witch workshop xylophone yacht yard yeti zeppelin zoo").split()


def table(text):
    """Parse a table of this module into a list of (names, icon label)."""
    rows = []
    for line in filter(None, text.splitlines()):
        names, _, label = line.partition("=")
        names = [name.strip() for name in names.split(",")]
        rows.append((names, label.strip() or names[0]))
    return rows
