"""The nouns that a newcomer types first, and the drawing that each one means.

One line a noun: ``noun, synonym, ... = icon label``. The label is the icon's English name in the data of
emojibase; without "=" the noun is the label. The first word of a line is the noun's name in evaluation.
The two tables differ in how often their nouns are drawn from (captions.py), and the first lines of FIRST are
what a short training concentrates on (``--focus`` of denoiser.py).
"""

FIRST = """
apple = red apple
banana
cat
dog
house, home = house
car = automobile
tree = deciduous tree
flower = hibiscus
sun
moon = crescent moon
star
heart = red heart
fish = tropical fish
bird
boat, sailboat = sailboat
rocket
ball, football, soccer ball = soccer ball
pizza
mushroom
butterfly
robot
ghost
smiley, happy face = grinning face
balloon
strawberry
orange = tangerine
cake, slice of cake = shortcake
burger, hamburger = hamburger
ice cream = soft ice cream
coffee, cup of coffee = hot beverage
rabbit, bunny = rabbit face
bear
panda
lion
tiger = tiger face
cow = cow face
pig = pig face
horse
elephant
monkey = monkey face
fox
frog
penguin
owl
duck
chicken
whale = spouting whale
shark
bee = honeybee
turtle
snake
dragon
unicorn
dinosaur, t-rex = T-Rex
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
mountain = snow-capped mountain
castle
bus
truck = delivery truck
train = locomotive
bicycle, bike = bicycle
plane, airplane = airplane
ship = passenger ship
key
book = blue book
umbrella
hat, top hat = top hat
crown
gift, present = wrapped gift
guitar
alien
clock = alarm clock
phone = mobile phone
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
deer
goat
sheep = ewe
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
eagle
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
earth, planet earth, globe = globe showing Europe-Africa
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
baby
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


def table(text):
    """Parse a table of this module into a list of (names, icon label)."""
    rows = []
    for line in filter(None, text.splitlines()):
        names, _, label = line.partition("=")
        names = [name.strip() for name in names.split(",")]
        rows.append((names, label.strip() or names[0]))
    return rows
